import os

from pvio.config.text import read_file

if os.path.exists("config.yaml"):
    # Errors that are easier to read than Snakemake's. A `module` statement gives other settings.
    if not workflow.modifier.skip_configfile:
        read_file("config.yaml")

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/encode.smk"
include: "workflow/rules/assemble.smk"
include: "workflow/rules/check.smk"


rule all:
    default_target: True
    input:
        "work/assembled",
        "work/report.html",
        CHECKED,
