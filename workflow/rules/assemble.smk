rule lost_results:
    output:
        f"{STALE_FOLDER}/results/{{loss}}.txt",
    log:
        "logs/lost_results/{loss}.log",
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    message:
        "Results are missing: assembling them again"
    shell:
        "date > {output} 2> {log}"


# A checkpoint, since it changes results that are inputs of other rules, see products.smk.
checkpoint assemble:
    input:
        plan="work/plan.json",
        infer=gather.infer("work/infer/{scatteritem}.json"),
        settings=INPUTS["assemble"].path,
        lost=LOST_RESULTS,
        encode=gather.encode("work/encode/{scatteritem}.json") if ENCODES else [],
    output:
        # The results are no output: Snakemake would remove outputs when the job starts, but results
        # are replaced as a whole when it ends.
        touch("work/assembled"),
        report=report(
            "work/report.html",
            caption="../report/page.rst",
            category="Results",
            labels={"page": "videos, shards and speed"},
        ),
    log:
        "logs/assemble.log",
    benchmark:
        "logs/benchmark/assemble.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: CORES
    resources:
        mem_mb=assemble_memory,
        runtime=assemble_minutes,
    params:
        results=RESULTS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Concatenating segments to predictions, videos and a report"
    shell:
        "PVIO_JOB=1 pvio assemble --config {input.settings} --plan {input.plan} --results {params.results:q}"
        " --threads {threads} {input.infer} {input.encode} > {log} 2>&1"
        " && cp {params.results:q}/report.html {output.report}"
