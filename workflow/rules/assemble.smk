rule assemble:
    input:
        plan="work/plan.json",
        infer=gather.infer("work/infer/{scatteritem}.json"),
        encode=gather.encode("work/encode/{scatteritem}.json") if ENCODES else [],
    output:
        # Snakemake takes files that it restores after a failure for new ones; this one tells.
        touch("work/assembled"),
        # Not removed when the job starts: the results change as a whole when it ends.
        update("results/plan.json"),
        update("results/summary.tsv"),
        update(
            report(
                "results/report.html",
                caption="../report/report.rst",
                category="pvio",
            )
        ),
    log:
        "logs/assemble.log",
    benchmark:
        "logs/benchmark/assemble.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: workflow.cores or 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=ENCODE_SETTINGS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Joining segments into predictions, videos and a report"
    shell:
        "pvio assemble --config {params.settings:q} --plan {input.plan} --results results"
        " --threads {threads} {input.infer} {input.encode} > {log} 2>&1"
