rule infer:
    input:
        parts="work/shards",
    output:
        "work/infer/{scatteritem}.json",
    log:
        "logs/infer/{scatteritem}.log",
    benchmark:
        "logs/benchmark/infer/{scatteritem}.tsv"
    priority: longest_first
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, input, attempt: load("infer", wildcards).mem_mb(
            attempt
        ),
        runtime=lambda wildcards, input, attempt: load(
            "infer", wildcards
        ).runtime_minutes(attempt),
        gpu=INFER_GPUS,
    params:
        settings=INFER_SETTINGS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Running the model over shard {wildcards.scatteritem}"
    shell:
        "PVIO_JOB=1 pvio infer --config {params.settings:q}"
        " --plan {input.parts}/infer/{wildcards.scatteritem}.json --shard {wildcards.scatteritem}"
        " --threads {threads} --out {output} > {log} 2>&1"
