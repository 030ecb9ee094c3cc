"""The pages: what a registry holds, for people with a browser (docs/registry.md).

Pages never search the records. A follower (`follower.py`) reads each log once, in order, and writes down beside it what the
records tell: missions, spans (who was asked, who was in control, what limited it) and marks. All of that is derived, can be
deleted and is then read anew, and pages say how far it has been read; only the registry's own tables are evidence. What a page
shows comes as plain dataclasses out of one snapshot: `fleet`, `missions`, `records` and `people` read, `app` lets in and renders.
"""
