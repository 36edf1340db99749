"""The report: one page, as HTML and as Markdown, on what is under DATA.

In: the manifests, counts and metrics of all stages, and the beginnings of large files. Out: index.html and report.md.
"""
