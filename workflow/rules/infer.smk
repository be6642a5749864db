rule infer:
    input:
        parts="work/shards",
        settings=INPUTS["infer"].path,
        stale=stale_infer,
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
        mem_mb=infer_memory,
        runtime=infer_minutes,
        gpu=INFER_GPUS,
    params:
        results=RESULTS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Infer shard {wildcards.scatteritem}: the model runs where results are missing"
    shell:
        "PVIO_JOB=1 pvio infer --config {input.settings}"
        " --plan {input.parts}/infer/{wildcards.scatteritem}.json --shard {wildcards.scatteritem}"
        " --results {params.results:q} --threads {threads} --out {output} > {log} 2>&1"
