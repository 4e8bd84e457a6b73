"""Pages of one self-contained HTML file each: the document, figures as SVG, tables, filters."""
