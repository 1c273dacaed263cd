"""What Azure's own client does with the store: put, blocks, ranges, lists, conditions, metadata, signed URLs.

  blob_client.py ADDRESS ACCOUNT KEY
"""
import datetime
import hashlib
import os
import socket
import sys

from azure.core import MatchConditions
from azure.core.exceptions import (ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceModifiedError,
                                   ResourceNotFoundError)
from azure.storage.blob import (BlobClient, BlobBlock, BlobSasPermissions, BlobServiceClient, ContainerClient,
                                ContainerSasPermissions, ContentSettings, generate_blob_sas, generate_container_sas)

address, account, key = sys.argv[1:]
credential = {"account_name": account, "account_key": key}
quick = {"retry_total": 0, "max_single_put_size": 4 << 20, "max_block_size": 1 << 20, "max_single_get_size": 2 << 20,
         "max_chunk_get_size": 1 << 20}
service = BlobServiceClient(f"{address}/{account}", credential=credential, **quick)


def raises(kind, code, call):
    try:
        call()
    except kind as error:
        assert code is None or error.error_code == code, (error.error_code, code)
    else:
        raise AssertionError("nothing was raised")


# Containers.
container = service.create_container("input", metadata={"colour": "red"})
raises(ResourceExistsError, "ContainerAlreadyExists", lambda: service.create_container("input"))
assert container.exists() and not service.get_container_client("nothing").exists()
assert container.get_container_properties().metadata == {"colour": "red"}
service.create_container("input-2")
service.create_container("output")
assert [each.name for each in service.list_containers()] == ["input", "input-2", "output"]
assert [each.name for each in service.list_containers(name_starts_with="input")] == ["input", "input-2"]
pages = [[each.name for each in page] for page in service.list_containers(results_per_page=2).by_page()]
assert pages == [["input", "input-2"], ["output"]], pages
service.delete_container("input-2")
raises(ResourceNotFoundError, "ContainerNotFound", lambda: service.delete_container("input-2"))

# A small blob, put whole.
small = container.get_blob_client("a folder/ü+%&#?.txt")
made = small.upload_blob(b"hello", metadata={"n": "1"}, content_settings=ContentSettings(
    content_type="text/plain", content_language="en", cache_control="no-cache", content_disposition="inline"))
assert small.download_blob().readall() == b"hello"
found = small.get_blob_properties()
assert (found.size, found.etag, found.metadata) == (5, made["etag"], {"n": "1"}), found
assert found.content_settings.content_type == "text/plain" and found.content_settings.content_language == "en"
assert found.content_settings.content_md5 == bytearray(hashlib.md5(b"hello").digest())
assert small.download_blob(offset=1, length=3).readall() == b"ell"
raises(ResourceExistsError, "BlobAlreadyExists", lambda: small.upload_blob(b"again"))
small.upload_blob(b"again", overwrite=True)
assert small.download_blob().readall() == b"again"
raises(ResourceModifiedError, "ConditionNotMet", lambda: small.upload_blob(
    b"x", overwrite=True, etag=made["etag"], match_condition=MatchConditions.IfNotModified))
small.set_blob_metadata({"m": "2"})
small.set_http_headers(ContentSettings(content_type="text/html"))
found = small.get_blob_properties()
assert (found.metadata, found.content_settings.content_type, found.size) == ({"m": "2"}, "text/html", 5)
raises(ResourceModifiedError, None, lambda: small.download_blob(
    etag=found.etag, match_condition=MatchConditions.IfModified))
empty = container.get_blob_client("empty")
empty.upload_blob(b"")
assert empty.download_blob().readall() == b""
raises(HttpResponseError, "InvalidRange", lambda: empty.download_blob(offset=10, length=1))
raises(ResourceNotFoundError, "BlobNotFound", lambda: container.get_blob_client("none").download_blob())
raises(ResourceNotFoundError, "ContainerNotFound",
       lambda: service.get_blob_client("nothing", "x").upload_blob(b"x", overwrite=True))

# A large one, in blocks, and read in ranges.
large = os.urandom((9 << 20) + 17)
big = container.get_blob_client("big")
big.upload_blob(large, max_concurrency=3)
assert big.download_blob(max_concurrency=3).readall() == large
assert big.download_blob(offset=(3 << 20) - 5, length=(1 << 20) + 10).readall() == large[(3 << 20) - 5:(4 << 20) + 5]
committed, waiting = big.get_block_list("all")
assert len(committed) == 10 and not waiting and sum(block.size for block in committed) == len(large)

# Blocks by hand: the last one of an id counts, those that are not named are forgotten.
parts = container.get_blob_client("parts")
for name, text in (("b1", b"one"), ("b2", b"two"), ("b1", b"ONE"), ("b3", b"three")):
    parts.stage_block(name, text)
raises(ResourceNotFoundError, "BlobNotFound", lambda: parts.download_blob())
committed, waiting = parts.get_block_list("all")
assert not committed and sorted(block.size for block in waiting) == [3, 3, 5]
parts.commit_block_list([BlobBlock("b2"), BlobBlock("b1")], content_settings=ContentSettings(content_type="text/plain"))
assert parts.download_blob().readall() == b"twoONE"
raises(HttpResponseError, "InvalidBlockList", lambda: parts.commit_block_list([BlobBlock("b3")]))
parts.stage_block("b4", b"!")
parts.commit_block_list([BlobBlock("b1"), BlobBlock("b4")])
assert parts.download_blob().readall() == b"ONE!"
raises(HttpResponseError, "InvalidBlockId", lambda: [parts.stage_block(name, b"x") for name in ("longer", "b5")])

# Lists.
for name in ("l/1", "l/2/a", "l/2/b", "l/3", "m"):
    container.upload_blob(name, b"x")
assert [each.name for each in container.list_blobs(name_starts_with="l/")] == ["l/1", "l/2/a", "l/2/b", "l/3"]
assert sorted(each.name for each in container.walk_blobs("l/", delimiter="/")) == ["l/1", "l/2/", "l/3"]
pages = [[each.name for each in page] for page in container.list_blobs("l/", results_per_page=3).by_page()]
assert pages == [["l/1", "l/2/a", "l/2/b"], ["l/3"]], pages
listed = {each.name: each for each in container.list_blobs(include=["metadata"])}
assert listed["a folder/ü+%&#?.txt"].metadata == {"m": "2"} and listed["big"].size == len(large)
container.delete_blob("l/1")
raises(ResourceNotFoundError, "BlobNotFound", lambda: container.delete_blob("l/1"))

# Who has no key, or a wrong one.
wrong = {"account_name": account, "account_key": "d3Jvbmcga2V5IG9mIHRoaXMgYWNjb3VudA=="}
raises(ClientAuthenticationError, "AuthenticationFailed",
       lambda: BlobServiceClient(f"{address}/{account}", credential=wrong, retry_total=0).create_container("evil"))
raises(ClientAuthenticationError, "AuthenticationFailed",
       lambda: BlobClient.from_blob_url(f"{address}/{account}/input/m", retry_total=0).download_blob())

# Signed URLs.
now = datetime.datetime.now(datetime.timezone.utc)
hour = datetime.timedelta(hours=1)


def signed(permission, start=None, expiry=now + hour, **more):
    token = generate_container_sas(account, "input", account_key=key, permission=ContainerSasPermissions.from_string(permission),
                                   start=start, expiry=expiry, **more)
    return ContainerClient.from_container_url(f"{address}/{account}/input?{token}", **quick)


reader, writer, creator = signed("rl"), signed("w", start=now - hour), signed("c")
assert reader.download_blob("m").readall() == b"x"
assert "m" in [each.name for each in reader.list_blobs()]
raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: reader.upload_blob("n", b"x"))
raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: reader.delete_blob("m"))
writer.upload_blob("n", large, overwrite=True)
writer.upload_blob("n", b"y", overwrite=True)
raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: writer.download_blob("n"))
raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: list(writer.list_blobs()))
creator.upload_blob("o", b"z")
raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: creator.upload_blob("o", b"z", overwrite=True))
raises(ClientAuthenticationError, "AuthenticationFailed", lambda: signed("r", expiry=now - hour).download_blob("m"))
raises(ClientAuthenticationError, "AuthenticationFailed", lambda: signed("r", start=now + hour / 2).download_blob("m"))
raises(HttpResponseError, "AuthorizationProtocolMismatch", lambda: signed("r", protocol="https").download_blob("m"))
raises(HttpResponseError, "AuthorizationSourceIPMismatch", lambda: signed("r", ip="10.0.0.1").download_blob("m"))
host, port = address.removeprefix("http://").split(":")
mine = socket.create_connection((host, int(port))).getsockname()[0]
assert signed("r", ip=f"{mine}-{mine}").download_blob("m").readall() == b"x"
elsewhere = f"{address}/{account}/output?{reader.url.split('?')[1]}"
raises(ClientAuthenticationError, "AuthenticationFailed",
       lambda: ContainerClient.from_container_url(elsewhere, retry_total=0).upload_blob("x", b"x"))
name = "a folder/ü+%&#?.txt"
token = generate_blob_sas(account, "input", name, account_key=key, permission=BlobSasPermissions(read=True), expiry=now + hour,
                          content_type="text/special")
one = BlobClient(f"{address}/{account}", "input", name, credential=token, retry_total=0)
download = one.download_blob()
assert download.readall() == b"again" and download.properties.content_settings.content_type == "text/special"
other = BlobClient(f"{address}/{account}", "input", "m", credential=token, retry_total=0)
raises(ClientAuthenticationError, "AuthenticationFailed", lambda: other.download_blob())
service.delete_container("input")
raises(ResourceNotFoundError, "ContainerNotFound", lambda: big.download_blob())
print("all is as it should be")
