"""The report: one page, as HTML and as Markdown, on everything under DATA.

In: the manifests, counts and metrics of all stages, and the beginning of each large file.
Out: index.html and report.md.
"""
