import os

from pvio.settings_text import read_file

if os.path.exists("config.yaml"):
    if (
        not workflow.modifier.skip_configfile
    ):  # as when a `module` statement gives the settings
        read_file("config.yaml")  # whose errors are easier to read than Snakemake's

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
