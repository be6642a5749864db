rule infer:
    input:
        "work/plan.json",
    output:
        "work/infer/{scatteritem}.json",
    log:
        "logs/infer/{scatteritem}.log",
    benchmark:
        "logs/benchmark/infer/{scatteritem}.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        settings=INFER_SETTINGS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Running the model over shard {wildcards.scatteritem}"
    shell:
        "pvio infer --config {params.settings:q} --plan {input} --shard {wildcards.scatteritem}"
        " --threads {threads} --out {output} > {log} 2>&1"
