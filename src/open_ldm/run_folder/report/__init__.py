"""report.html: the page of a run. Each file gathers one part of it as plain data; the templates of pages/ lay it out."""
