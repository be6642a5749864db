rule encode:
    input:
        plan="work/plan.json",
        infer=gather.infer("work/infer/{scatteritem}.json"),
    output:
        "work/encode/{scatteritem}.json",
    log:
        "logs/encode/{scatteritem}.log",
    benchmark:
        "logs/benchmark/encode/{scatteritem}.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=480,
    params:
        settings=ENCODE_SETTINGS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Encoding the overlay video of shard {wildcards.scatteritem}"
    shell:
        "pvio encode --config {params.settings:q} --plan {input.plan}"
        " --shard {wildcards.scatteritem} --out {output} > {log} 2>&1"
