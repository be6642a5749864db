rule plan:
    input:
        "work/probe.json",
    output:
        "work/plan.json",
    log:
        "logs/plan.log",
    benchmark:
        "logs/benchmark/plan.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=PLAN_SETTINGS,
        shards=SHARDS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Spreading segments over {params.shards} shards, longest first"
    shell:
        "pvio plan --config {params.settings:q} --probe {input} --shards {params.shards}"
        " --out {output} > {log} 2>&1"
