"""Results for people and for scripts: texts, pages, pictures, tables and their directories.

Where to look:

================  ==========================================================================
words, lines      sizes, times and sentences in words; plain text broken and aligned
files             how a file is written: whole, the same bytes for the same content
results, record   the directory of one run, written and read back
many              the directory of many runs; compare, headroom, recommend, sweep_results and
                  check add what is their own
text, many_text   what a command prints; compare_text, story (``explain``), oom_story
tables            a table as HTML, CSV and Markdown want it
page              the page of one run
odds              the page of many runs: odds_tables, odds_settings and odds_change are its parts
sides             two runs beside each other
deliver           ``capplan report``: any result in any form (markdown, html, the pictures)
html, templates   jinja2, the style sheet, the script
chart             what a picture shows, as data; made by figures_*, one file for each subject
draw, draw_*      a chart drawn by matplotlib; palette, svg and plates fit it into a page
================  ==========================================================================
"""
