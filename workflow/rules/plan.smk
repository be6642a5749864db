rule plan:
    input:
        probe="work/probe.json",
        settings=INPUTS["plan"].path,
    output:
        plan="work/plan.json",
        # The plan of each shard, since the whole plan may be large; and the resources of the jobs.
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
        mem_mb=plan_memory,
        runtime=plan_minutes,
    params:
        results=RESULTS,
        shards=SHARDS,
        identity=IDENTITY,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Spreading segments over {params.shards} shards, longest first"
    shell:
        "PVIO_JOB=1 pvio plan --config {input.settings} --probe {input.probe} --shards {params.shards}"
        " --identity {params.identity}"
        " --parts {output.parts} --results {params.results:q} --out {output.plan} > {log} 2>&1"
