"""Makes what the scenario needs in three stores, as its users would by the stores' own clients, and writes a file that says where:
stores.py OUT KEY EMBEDDED AZURITE S3. Each store has an input as one file and in a container, and a place for results.
"""

import datetime
import json
import sys
import time

import boto3
from azure.core.exceptions import ServiceRequestError
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from botocore.config import Config
from botocore.exceptions import BotoCoreError

AZURITE = ("devstoreaccount1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
INPUTS = {"in/one.txt": b"one\n", "in/deep/two.txt": b"two\n"}
HOURS = 1


def listening(error, call):
    """Calls a server that has perhaps not started yet."""
    end = time.monotonic() + 60
    while True:
        try:
            return call()
        except error:
            assert time.monotonic() < end, "the store does not listen"
            time.sleep(0.05)


def blobs(endpoint, account, key):
    credential = {"account_name": account, "account_key": key}
    service = BlobServiceClient(f"{endpoint}/{account}", credential=credential, retry_total=0)
    container = listening(ServiceRequestError, lambda: service.create_container("scene"))
    for name, data in INPUTS.items():
        container.upload_blob(name, data)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=HOURS)

    def signed(letters):
        permission = ContainerSasPermissions.from_string(letters)
        protocol = "https" if endpoint.startswith("https:") else None
        return generate_container_sas(account, "scene", account_key=key, permission=permission, expiry=end, protocol=protocol)

    base = f"{endpoint}/{account}/scene"
    return {
        "file": f"{base}/in/one.txt?{signed('r')}",
        "container": f"{base}?{signed('rl')}",
        "results": f"{base}?{signed('cw')}",
        "fetch": [f"{base}/out/{name}?{signed('r')}" for name in ("one.txt", "logs/stdout.txt")],
        "environment": {},
    }


def objects(endpoint):
    login = {"aws_access_key_id": "test", "aws_secret_access_key": "SECRET"}
    quick = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=quick, **login)
    listening(BotoCoreError, lambda: client.create_bucket(Bucket="scene"))
    for name, data in INPUTS.items():
        client.put_object(Bucket="scene", Key=name, Body=data)

    def presigned(name):
        return client.generate_presigned_url("get_object", Params={"Bucket": "scene", "Key": name}, ExpiresIn=3600 * HOURS)

    return {
        "file": presigned("in/one.txt"),
        "container": "s3://scene",
        "results": "s3://scene",
        "fetch": [presigned(f"out/{name}") for name in ("one.txt", "logs/stdout.txt")],
        "environment": {
            "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "SECRET"},
    }


out, key, embedded, azurite, s3 = sys.argv[1:]
with open(key) as file:
    account = ("lab", file.read().strip())
with open(out, "w") as file:
    json.dump({"embedded": blobs(embedded, *account), "azurite": blobs(azurite, *AZURITE), "s3": objects(s3)}, file)
