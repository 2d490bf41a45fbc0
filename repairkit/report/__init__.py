"""One result, two views: HTML and Markdown."""
