"""Signatures of requests to S3, against those that Amazon publishes; lists, also those that are none."""

from datetime import UTC, datetime

import pytest

from services.data.reading import signing_s3
from services.data.reading.signing_s3 import Key, Object
from services.kit.errors import Failure

# The example of Amazon's documentation of Signature Version 4 for S3.
KEY = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
HOST, THEN = "examplebucket.s3.amazonaws.com", datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            {},
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_requests_are_signed_as_amazon_does(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    sent = signing_s3.target(path, query)
    said = signing_s3.signed(KEY, HOST, sent, headers, THEN)
    assert said["authorization"].endswith(f"Signature={signature}")


def test_without_an_access_key_nothing_is_signed() -> None:
    assert signing_s3.signed(Key("", "", "r"), HOST, "/", {"range": "bytes=0-9"}, THEN) == {"range": "bytes=0-9"}


def test_names_are_sent_as_they_are_signed() -> None:
    assert signing_s3.target("/b/a b+ä%/c", {"x": "a/b c"}) == "/b/a%20b%2B%C3%A4%25/c?x=a%2Fb%20c"


def document(inner: str) -> bytes:
    return f"<?xml version='1.0'?><ListBucketResult>{inner}</ListBucketResult>".encode()


def test_a_list_is_read_with_its_next_page() -> None:
    said = "<Contents><Key>a%20b</Key><Size>3</Size><ETag>x</ETag></Contents>"
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    assert signing_s3.listed(document(said)).objects == [Object("a%20b", 3, "x")]
    found = signing_s3.listed(document(f"<EncodingType>url</EncodingType>{said}{more}"))
    assert (found.objects, found.last, found.more) == ([Object("a b", 3, "x")], False, "t")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe<",
        b"<a/>",
        b"{}",
        document("<Contents><Size>x</Size></Contents>"),
        document("<Contents><Key>a</Key><Size>-1</Size></Contents>"),
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + document("&b;"),
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><ListBucketResult/>'.encode("utf-16"),
    ],
)
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(Failure, match="it may not be one of S3"):
        signing_s3.listed(body)
