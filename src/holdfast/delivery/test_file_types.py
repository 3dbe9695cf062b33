"""MIME types by bytes and names, and file names."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.content import MediaKind
from holdfast.delivery.file_types import extension_of, sniffed, suffix_of, text_type, type_by_name
from holdfast.delivery.filenames import (
    cleaned,
    from_disposition,
    from_dispositions,
    from_paths,
    made_for,
    with_suffix,
    without_coding,
)
from holdfast.delivery.media import HEAD_BYTES, TAIL_BYTES, Evidence, resolved_mimetype

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX, XLSX = f"{OFFICE}wordprocessingml.document", f"{OFFICE}spreadsheetml.sheet"
PPTX, DOCM = f"{OFFICE}presentationml.presentation", "application/vnd.ms-word.document.macroEnabled.12"
OCTETS = "application/octet-stream"


def package(*names: str, first: tuple[str, bytes] | None = None, content: bytes = b"x" * 100) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        if first is not None:
            archive.writestr(zipfile.ZipInfo(first[0]), first[1])
        for name in names:
            archive.writestr(name, content)
    return held.getvalue()


def ole(*streams: str) -> bytes:
    entries = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams))
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + entries


PARTS = ("[Content_Types].xml", "_rels/.rels")
ANDROID = ("META-INF/MANIFEST.MF", "AndroidManifest.xml", "classes.dex")


def document(content: bytes, declared: str | None = None, name: str | None = None, *, is_callers: bool = True) -> str:
    is_whole = len(content) <= HEAD_BYTES
    tail = b"" if is_whole else content[-TAIL_BYTES:]
    evidence = Evidence(head=content[:HEAD_BYTES], tail=tail, is_whole=is_whole, filename=name)
    return resolved_mimetype(MediaKind.DOCUMENT, declared, evidence, field="f", is_callers=is_callers)


@pytest.mark.parametrize(
    ("content", "name", "mimetype"),
    [
        (package(*PARTS, "word/document.xml"), None, DOCX),
        (package("word/document.xml", *PARTS), "wrong.zip", DOCX),
        (package(*PARTS, "xl/workbook.xml"), None, XLSX),
        (package(*PARTS, "ppt/presentation.xml"), None, PPTX),
        (package(*PARTS, "word/document.xml", "word/vbaProject.bin"), None, DOCM),
        (package(*PARTS, "xl/workbook.bin"), None, "application/vnd.ms-excel.sheet.binary.macroEnabled.12"),
        (package(*PARTS, "word/document.xml"), "a.dotx", f"{OFFICE}wordprocessingml.template"),
        (package(*PARTS, "word/document.xml"), "a.xlsx", DOCX),
        (package(first=("mimetype", b"application/epub+zip")), None, "application/epub+zip"),
        (
            package("content.xml", first=("mimetype", b"application/vnd.oasis.opendocument.text")),
            None,
            "application/vnd.oasis.opendocument.text",
        ),
        (package(*ANDROID), None, "application/vnd.android.package-archive"),
        (package("META-INF/MANIFEST.MF", "A.class"), None, "application/java-archive"),
        (package("doc.kml"), None, "application/vnd.google-earth.kmz"),
        (package("a.txt"), None, "application/zip"),
        (package("a.txt"), "a.pdf", "application/zip"),
        (package("x"), "A.APK", "application/vnd.android.package-archive"),
        (package("docs/word/document.xml", "inner.docx"), None, "application/zip"),
        (b"PK\x05\x06" + bytes(18), None, "application/zip"),
        (package(*(f"r/{n}.png" for n in range(9000)), *PARTS, "word/document.xml"), None, DOCX),
        (package(*PARTS, "xl/workbook.xml", first=("xl/media/a.bin", bytes(2 * HEAD_BYTES))), None, XLSX),
        (ole("WordDocument"), None, "application/msword"),
        (ole("Workbook"), None, "application/vnd.ms-excel"),
        (ole("Book"), None, "application/vnd.ms-excel"),
        (ole("PowerPoint Document"), None, "application/vnd.ms-powerpoint"),
        (ole("__nameid_version1.0"), None, "application/vnd.ms-outlook"),
        (ole("Something"), "a.doc", "application/msword"),
        (ole("Something"), None, "application/x-ole-storage"),
        (b"a;b\n1;2\n", "a.csv", "text/csv"),
        (b"\xef\xbb\xbfa;b\n", "a.CSV", "text/csv"),
        ("a;ü\n".encode("latin-1"), "a.csv", "text/csv"),
        ("hello".encode("utf-16"), "a.txt", "text/plain"),
        ("hello".encode("utf-16"), None, "text/plain"),
        (b"hello", None, "text/plain"),
        ("ق".encode() * HEAD_BYTES, None, "text/plain"),
        (b"<!DOCTYPE html><html>", None, "text/html"),
        (b"\n<html lang=en>", "page.htm", "text/html"),
        (b'{"a": 1}', None, "application/json"),
        (b'{"a": 1', None, "text/plain"),
        (b"[1]", "a.json", "application/json"),
        (b"<?xml version='1.0'?><a/>", None, "application/xml"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='x'/>", None, "image/svg+xml"),
        (b"<svg/>", "a.svg", "image/svg+xml"),
        (b"BEGIN:VCARD\r\nVERSION:3.0", None, "text/vcard"),
        (b"BEGIN:VCALENDAR\r\n", None, "text/calendar"),
        (b"# x", "a.md", "text/markdown"),
        (b"%PDF-1.4", "a.csv", "application/pdf"),
        (b"{\\rtf1", None, "application/rtf"),
        (b"Rar!\x1a\x07\x00", None, "application/vnd.rar"),
        (b"7z\xbc\xaf\x27\x1c", None, "application/x-7z-compressed"),
        (b"\x1f\x8b\x08", "a.tar.gz", "application/gzip"),
        (bytes(257) + b"ustar\0", None, "application/x-tar"),
        (b"RIFF\x00\x00\x00\x00WAVE", None, "audio/wav"),
        (b"\x00\x01\x02", "a.unknown", OCTETS),
        (b"\x00\x01\x02", "a.docx", DOCX),
        (package("pass.json"), "boarding.pkpass", "application/vnd.apple.pkpass"),
        (package("Index/Document.iwa"), "letter.pages", "application/vnd.apple.pages"),
        (b"0\x82\x01\x00", "invoice.xml.p7m", "application/pkcs7-mime"),
        (b"ISO-10303-21;", "part.STEP", "model/step"),
        (b"\x00\x01\x02", None, OCTETS),
    ],
)
def test_a_document_has_the_type_of_its_content(content: bytes, name: str | None, mimetype: str) -> None:
    """The bytes decide, also within containers and after many entries; then the name; then whether it is text."""
    assert document(content, name=name) == mimetype
    for generic in (OCTETS, "binary/octet-stream", "application/force-download", "application/x-www-form-urlencoded"):
        assert document(content, generic, name) == mimetype


@pytest.mark.parametrize(
    ("content", "declared", "name", "by_caller", "by_server"),
    [
        (package(*PARTS, "word/document.xml"), "application/zip", None, "application/zip", DOCX),
        (package("a"), "application/x-zip-compressed", None, "application/x-zip-compressed", "application/zip"),
        (ole("WordDocument"), "application/vnd.ms-office", None, "application/vnd.ms-office", "application/msword"),
        (b"a;b", "text/plain", "a.csv", "text/plain", "text/csv"),
        (b"\x00\x01", "text/plain", None, "text/plain", "text/plain"),
        (b"%PDF-1.4", "text/csv", "a.docx", "text/csv", "application/pdf"),
        (b"%PDF-1.4", "text/html; charset=utf-8", None, "text/html; charset=utf-8", "application/pdf"),
        (package(*PARTS, "word/document.xml"), "application/json", None, "application/json", DOCX),
        (b"\xff\xd8\xff", "image/png", None, "image/png", "image/jpeg"),
        (b"\xff\xd8\xff", "application/vnd.x", None, "application/vnd.x", "application/vnd.x"),
        (b"<html>", "text/html", "a.pdf", "text/html", "text/html"),
        (b"a;b", "application/pdf", "a.csv", "application/pdf", "application/pdf"),
        (b"AC10,foo", "text/csv; charset=utf-8", "a.csv", "text/csv; charset=utf-8", "text/csv; charset=utf-8"),
        (b"BZh notes", "text/markdown", None, "text/markdown", "text/markdown"),
        (b"%!PS-Adobe-3.0", "text/plain", None, "text/plain", "application/postscript"),
        (b"GIF89a\x01\x00", "text/html", None, "text/html", "image/gif"),
    ],
)
def test_a_stated_type_has_priority(
    content: bytes, declared: str, name: str | None, by_caller: str, by_server: str
) -> None:
    """The caller's type always counts; the server's does unless it is a generic one, or can't be right."""
    assert document(content, declared, name) == by_caller
    assert document(content, declared, name, is_callers=False) == by_server


@given(st.binary(max_size=600), st.binary(max_size=600), st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"OggS"]))
def test_no_bytes_upset_the_reading_of_types(head: bytes, tail: bytes, beginning: bytes) -> None:
    """A file may state any length."""
    sniffed(beginning + head, tail)
    sniffed(beginning + head, b"PK\x01\x02" + tail + b"PK\x05\x06" + head)
    text_type(head, is_whole=True)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ("attachment; filename=report.pdf", "report.pdf"),
        ("attachment;filename=report final.pdf", "report final.pdf"),
        ("inline; filename*=UTF-8''%e2%82%ac%20rates.pdf", "€ rates.pdf"),
        ("attachment; filename=\"EURO.pdf\"; filename*=utf-8'en'%e2%82%ac.pdf", "€.pdf"),
        ("attachment; filename*=utf-8''%e2%82%ac.pdf; filename=\"EURO.pdf\"", "€.pdf"),
        ("attachment; filename*=iso-8859-1''%fcber.pdf", "über.pdf"),
        ("attachment; filename*=windows-1256''%c7%e1.pdf; filename=a.pdf", "ال.pdf"),
        ("attachment; filename*=nonsense''%ff.pdf; filename=a.pdf", "a.pdf"),
        ("attachment; filename*=UTF-8''%ff.pdf; filename=a.pdf", "a.pdf"),
        ('attachment; filename="a\\"b\\\\c.pdf"', "c.pdf"),
        ('attachment; filename="semi;colon.pdf"; size=3', "semi;colon.pdf"),
        ('ATTACHMENT; FileName = "a.pdf"', "a.pdf"),
        ('filename="a.pdf"', "a.pdf"),
        ('attachment; filename="r%C3%A9sum%C3%A9.pdf"', "résumé.pdf"),
        ('attachment; filename="100%.pdf"', "100%.pdf"),
        ('attachment; filename="ü.pdf"', "ü.pdf"),
        ('attachment; filename="' + b"\xfc.pdf".decode("utf-8", "surrogateescape") + '"', "ü.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\tmp\\\\a.pdf"', "a.pdf"),
        ('attachment; filename="a\u202efdp.exe"', "afdp.exe"),
        ("attachment; filename*=UTF-8''a%0d%0ab%00.pdf", "ab.pdf"),
        ("attachment; filename*0*=UTF-8''%e2%82%ac; filename*1=\"uro.pdf\"", "€uro.pdf"),
        ('attachment; filename*1="bar.pdf"; filename*0="foo"', "foobar.pdf"),
        ("attachment; filename*0*=UTF-8''a; filename*2*=c.pdf; filename=b.pdf", "a"),
        ("attachment; filename*0*=nonsense''%e9; filename=b.pdf", "b.pdf"),
        ('attachment; filename="=?UTF-8?B?w6kucGRm?="', "é.pdf"),
        ('attachment; filename="=?nonsense?Q?=e9.pdf?="', "=?nonsense?Q?=e9.pdf?="),
        ('attachment; filename="con.pdf"', "_con.pdf"),
        ('attachment; filename="LPT1"', "_LPT1"),
        ('attachment; filename="' + "é" * 300 + '.pdf"', "é" * 125 + ".pdf"),
        ('attachment; filename=""', None),
        ('attachment; filename=".."', None),
        ("attachment", None),
        ("", None),
        ('attachment; filename="cut off.pdf', "cut off.pdf"),
        ("attachment; filename='single quotes.pdf'", "single quotes.pdf"),
        ("attachment; filename=it's.pdf", "it's.pdf"),
    ],
)
def test_a_server_names_its_file(header: str, name: str | None) -> None:
    """Both forms of RFC 6266 work, the extended one first, and so does what servers send in practice; a path or
    invisible characters never become part of a name."""
    assert from_disposition(header) == name


def test_any_of_several_headers_names_the_file() -> None:
    """A proxy may have added a header without a name."""
    assert from_dispositions(["inline", 'attachment; filename="a.pdf"', 'attachment; filename="b.pdf"']) == "a.pdf"
    assert from_dispositions([]) is None


GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(
    ("name", "head", "without"),
    [
        ("a.csv.gz", b"name;total", "a.csv"),
        ("a.CSV.GZ", b"name;total", "a.CSV"),
        ("a.tgz", b"a.txt", "a.tar"),
        ("a.svgz", b"<svg", "a.svg"),
        ("a.csv.zst", b"name;total", "a.csv"),
        ("a.js.br", b"let a", "a.js"),
        ("a.csv.gz", GZIP, "a.csv.gz"),
        ("a.csv.zst", ZSTD, "a.csv.zst"),
        ("a.csv", b"name;total", "a.csv"),
        (".gz", b"name;total", ".gz"),
    ],
)
def test_a_name_loses_the_suffix_of_a_compression_that_was_undone(name: str, head: bytes, without: str) -> None:
    """No program opens a plain text named a.csv.gz. A file that was compressed twice is still compressed."""
    assert without_coding(name, head) == without


@pytest.mark.parametrize(
    ("paths", "mimetype", "name"),
    [
        (["/files/report%20final.pdf"], "application/pdf", "report final.pdf"),
        (["/f/%D9%81%D8%A7%D8%AA%D9%88%D8%B1%D8%A9.pdf"], "application/pdf", "فاتورة.pdf"),
        (["/f/a%2Fb.pdf"], "application/pdf", "b.pdf"),
        (["/f/%2e%2e%2f%2e%2e%2fpasswd"], "text/plain", "passwd.txt"),
        (["/f/a%00%0Ab%E2%80%AE.pdf"], "application/pdf", "ab.pdf"),
        (["/f/%fcber.csv"], "text/csv", "über.csv"),
        (["/download"], DOCX, "download.docx"),
        (["/download.php"], "application/pdf", "download.pdf"),
        (["/report.2026"], "application/pdf", "report.2026.pdf"),
        (["/x/8f3a", "/invoice.pdf"], "application/pdf", "invoice.pdf"),
        (["/cdn/invoice.pdf", "/s/1"], "application/pdf", "invoice.pdf"),
        (["/x"], "application/x-unheard-of", "x"),
        (["/a/b/"], "application/pdf", None),
        (["/a/b.pdf/"], "application/pdf", "b.pdf"),
        (["/", ""], "application/pdf", None),
        (["/" + "n" * 300 + ".pdf"], "application/pdf", "n" * 251 + ".pdf"),
    ],
)
def test_an_address_names_its_file(paths: list[str], mimetype: str, name: str | None) -> None:
    """The last segment of the URL, before or after redirects, is decoded and cleaned, and gets a suffix if it has
    none."""
    found = from_paths(paths)
    assert (None if found is None else with_suffix(found, mimetype)) == name


def test_a_file_without_a_name_gets_one_that_opens_it() -> None:
    """It gets the suffix of its type, if that has one."""
    assert [made_for(each) for each in ("application/pdf", DOCX, "audio/ogg; codecs=opus", "text/plain", OCTETS)] == [
        "document.pdf", "document.docx", "document.ogg", "document.txt", "document",
    ]  # fmt: skip


@given(st.text())
def test_a_cleaned_name_is_one_segment(text: str) -> None:
    """This holds for any input."""
    name = cleaned(text)
    assert name is None or not set(name) & set("/\\\0\r\n")
    assert name is None or (len(name.encode()) <= 255 and cleaned(name) == name)


def test_suffixes_and_types_name_each_other() -> None:
    """The suffix for a type leads back to the same type."""
    types: Iterable[str | None] = (
        type_by_name(f"a.{suffix}") for suffix in ("pdf", "docx", "csv", "ogg", "jpg", "svg")
    )
    for mimetype in types:
        assert mimetype is not None
        assert type_by_name("a" + extension_of(mimetype)) == mimetype
    assert (suffix_of(".bashrc"), suffix_of("a.b.PDF"), type_by_name("none")) == ("", ".PDF", None)
