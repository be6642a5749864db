def published_products():
    """The folder with the products of the last plan, and the names of these."""
    newer, folder = next_folder(RESULTS), Path(RESULTS)
    if run_of(newer) is not None:
        folder = newer
    found = read_products(folder)
    return folder.name, [name for name in found if "failure" not in found[name]]


onstart:
    STARTED[0] = file_system_time(LOGS_FOLDER)
    correct_future_times(STARTED[0], SETTINGS_FOLDER, STALE_FOLDER)
    terminate_jobs_on_sigterm()
    PROGRESS.append(
        show_progress(STARTED[0], logger.handlers, *published_products())
    )
    from pvio.pipeline.publishing.live_summary import LiveSummary

    SUMMARIES.append(LiveSummary(RESULTS, STARTED[0]))
    SUMMARIES[-1].start()


onsuccess:
    for line in PROGRESS:
        line.stop()
    for live in SUMMARIES:
        live.stop()
    summary = Path(RESULTS, "summary.tsv")
    rows = read_summary(summary) if summary.exists() else []
    bad = sum(row["status"] != "ok" for row in rows)
    if bad:
        print(
            f"{bad} of {len(rows)} videos are not ok: see {summary}",
            file=sys.stderr,
        )
    if rows:
        page = f"{RESULTS}/report.html"
        print(f"pvio: {describe_end(rows, page)}", file=sys.stderr)
    if rows and summary.stat().st_mtime >= STARTED[0]:
        from pvio.cli.clean import describe_unused

        left = describe_unused(SETTINGS)
        if left:
            print(f"pvio: {left}", file=sys.stderr)
    names = Path(RESULTS, NAMES_FILE)
    renamed = renamed_results(RESULTS) if names.exists() else {}
    if renamed and names.stat().st_mtime >= STARTED[0]:
        old, new = next(iter(renamed.items()))
        print(
            printable(
                f"{len(renamed)} results were renamed, since their files were moved "
                f"({old} is {new}): see logs/assemble.log"
            ),
            file=sys.stderr,
        )


onerror:
    for line in PROGRESS:
        line.stop(is_complete=False)
    for live in SUMMARIES:
        live.stop()
    # Snakemake names the failed job and its log; this adds the errors.
    for path, error in errors_of(LOGS_FOLDER, STARTED[0]):
        print(f"\n{path}: {printable_lines(error)}", file=sys.stderr)
