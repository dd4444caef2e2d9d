"""Writes the documents of this folder: one of each format, all about a lighthouse.

Needs python-docx, python-pptx, openpyxl, reportlab and ebooklib, and LibreOffice as `soffice` for OpenDocument and the
old formats. The files are checked in; run it where a format is to be added: python make.py
"""

import pathlib
import subprocess
import sys
import tempfile

import docx
import openpyxl
import pptx
from ebooklib import epub
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

HERE = pathlib.Path(__file__).parent
TITLE = "The Keeper's Almanac"
LAMP = "The lamp burns colza oil; a Fresnel lens gathers its light into beams seen from eighteen miles."
FOG = "When fog hides the light, a diaphone sounds two blasts every ninety seconds."
STEPS = ["Dust the prisms with a feather brush.", "Polish them with rouge and chamois leather."]
ROWS = [["Month", "Gallons", "Remarks"], ["January", 62, "long nights"], ["June", 31, "short nights"]]


def text():
    document = docx.Document()
    document.core_properties.title = TITLE
    document.add_heading("Lamps", 1)
    document.add_paragraph(LAMP)
    document.add_heading("Cleaning", 2)
    for step in STEPS:
        document.add_paragraph(step, style="List Bullet")
    table = document.add_table(rows=0, cols=3)
    for row in ROWS:
        for cell, value in zip(table.add_row().cells, row):
            cell.text = str(value)
    document.add_heading("Fog signals", 1)
    document.add_paragraph(FOG + " Příliš žluťoučký kůň.")
    document.save(HERE / "almanac.docx")


def slides():
    deck = pptx.Presentation()
    deck.core_properties.title = TITLE
    used = deck.slide_layouts[1]
    for layout in [layout for layout in deck.slide_layouts if layout != used]:
        deck.slide_layouts.remove(layout)
    slides = [("Lamps", [LAMP], "Show the lens."), ("Cleaning", STEPS, None), ("Fog signals", [FOG], None)]
    for title, lines, note in slides:
        slide = deck.slides.add_slide(used)
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(lines)
        if note:
            slide.notes_slide.notes_text_frame.text = note
    deck.save(HERE / "almanac.pptx")


def sheets():
    book = openpyxl.Workbook()
    book.properties.title = TITLE
    oil = book.active
    oil.title = "Oil"
    for row in ROWS:
        oil.append(row)
    signals = book.create_sheet("Signals")
    signals.append(["Station", "Signal"])
    signals.append(["Skerryvore", "two blasts every ninety seconds"])
    book.save(HERE / "almanac.xlsx")


def book():
    made = epub.EpubBook()
    made.set_identifier("almanac")
    made.set_title(TITLE)
    made.set_language("en")
    chapters = []
    for number, (title, body) in enumerate([("Lamps", LAMP), ("Fog signals", FOG)], 1):
        chapter = epub.EpubHtml(title=title, file_name=f"ch {number}.xhtml")
        chapter.content = f"<html><body><nav>menu</nav><h1>{title}</h1><p>{body}</p></body></html>"
        made.add_item(chapter)
        chapters.append(chapter)
    made.toc = chapters
    made.add_item(epub.EpubNcx())
    made.add_item(epub.EpubNav())
    made.spine = ["nav", *chapters]
    epub.write_epub(HERE / "almanac.epub", made)


def pages():
    styles = getSampleStyleSheet()
    story = [Paragraph("Lamps", styles["Heading1"]), Paragraph(LAMP, styles["Normal"])]
    story += [Paragraph("Cleaning", styles["Heading2"]), *(Paragraph(f"• {step}", styles["Normal"]) for step in STEPS)]
    story += [Table(ROWS), PageBreak()]
    story += [Paragraph("Fog signals", styles["Heading1"]), Paragraph(FOG, styles["Normal"])]
    SimpleDocTemplate(str(HERE / "almanac.pdf"), title=TITLE, invariant=True).build(story)


def convert(source, *formats):
    with tempfile.TemporaryDirectory() as profile:
        for wanted in formats:
            command = ["soffice", f"-env:UserInstallation=file://{profile}", "--headless", "--convert-to", wanted]
            subprocess.run([*command, "--outdir", HERE, HERE / source], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    text()
    slides()
    sheets()
    book()
    pages()
    convert("almanac.docx", "odt", "doc")
    convert("almanac.pptx", "odp", "ppt")
    convert("almanac.xlsx", "ods", "xls")
