rule plan:
    input:
        "work/probe.json",
    output:
        plan="work/plan.json",
        # What each job needs of it, since it may be large; and how much each has to do.
        parts=directory("work/shards"),
    log:
        "logs/plan.log",
    benchmark:
        "logs/benchmark/plan.tsv"
    localrule: True
    conda:
        "../envs/pvio.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: (500 + 6 * N_VIDEOS // 1000) * attempt,
        runtime=lambda wildcards, attempt: (30 + N_VIDEOS // 10_000) * attempt,
    params:
        settings=PLAN_SETTINGS,
        shards=SHARDS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Spreading segments over {params.shards} shards, longest first"
    shell:
        "PVIO_JOB=1 pvio plan --config {params.settings:q} --probe {input} --shards {params.shards}"
        " --parts {output.parts} --out {output.plan} > {log} 2>&1"
