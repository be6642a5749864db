rule assemble:
    input:
        plan="work/plan.json",
        infer=gather.infer("work/infer/{scatteritem}.json"),
        encode=gather.encode("work/encode/{scatteritem}.json") if ENCODES else [],
    output:
        # The results themselves are none: Snakemake would remove them when the job starts, and they
        # change as a whole when it ends.
        touch("work/assembled"),
        report=report(
            "work/report.html",
            caption="../report/report.rst",
            category="pvio",
        ),
    log:
        "logs/assemble.log",
    benchmark:
        "logs/benchmark/assemble.tsv"
    conda:
        "../envs/pvio.yaml"
    threads: CORES
    resources:
        mem_mb=lambda wildcards, attempt: (2000 + 12 * N_VIDEOS // 1000) * attempt,
        runtime=lambda wildcards, attempt: (120 + N_VIDEOS // 100) * attempt,
    params:
        settings=ASSEMBLE_SETTINGS,
        model=MODEL,
        version=PVIO_VERSION,
    message:
        "Joining segments into predictions, videos and a report"
    shell:
        "PVIO_JOB=1 pvio assemble --config {params.settings:q} --plan {input.plan} --results results"
        " --threads {threads} {input.infer} {input.encode} > {log} 2>&1"
        " && cp results/report.html {output.report}"
