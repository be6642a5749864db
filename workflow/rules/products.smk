# Products as inputs of the rules of other workflows: these name a file of `results/`, and Snakemake
# waits for `assemble`. The checkpoint makes it look at the files again afterwards, so that a rule runs for
# videos with changed products only. Snakemake never removes a product, since the output is flagged as
# `update`, and does not touch it: the job only runs when a product is missing after `assemble`.
rule product:
    input:
        ancient(assembled),
    output:
        update(f"{RESULTS_PATTERN}/{{product}}"),
    log:
        "logs/products/{product}.log",
    wildcard_constraints:
        product=r"(predictions|videos)/.+|summary\.tsv",
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    params:
        summary=f"{RESULTS}/summary.tsv",
    message:
        "Looking for {output}"
    shell:
        "test -e {output:q} || (echo {output:q}' does not exist: see '{params.summary:q}'; a video that failed or"
        " cannot be read has no such file' > {log:q}; exit 1)"
