"""A user asks more often than the site lets one: the SDK, of either generation, waits and asks again by itself."""

import sys
import time

from azure import batch

LISTS = 40
JOBS = 10

url, account, key = sys.argv[1], sys.argv[2], open(sys.argv[3]).read().strip()
if hasattr(batch, "BatchClient"):
    from azure.core.credentials import AzureNamedKeyCredential

    client = batch.BatchClient(url, AzureNamedKeyCredential(account, key))
    info = batch.models.BatchPoolInfo(pool_id="none")

    def lists():
        return list(client.list_pools())

    def add(id):
        client.create_job(batch.models.BatchJobCreateOptions(id=id, pool_info=info))

    def jobs():
        return [job.id for job in client.list_jobs()]
else:
    from azure.batch.batch_auth import SharedKeyCredentials

    client = batch.BatchServiceClient(SharedKeyCredentials(account, key), batch_url=url)
    info = batch.models.PoolInformation(pool_id="none")

    def lists():
        return list(client.pool.list())

    def add(id):
        while True:
            try:
                return client.job.add(batch.models.JobAddParameter(id=id, pool_info=info))
            except batch.models.BatchErrorException as error:
                # With urllib3 2, msrest repeats no POST, whatever it is answered with.
                assert error.error.code == "TooManyRequests", error
                time.sleep(int(error.response.headers["Retry-After"]))

    def jobs():
        return [job.id for job in client.job.list()]


for _ in range(LISTS):
    assert lists() == []
for number in range(JOBS):
    add(f"often-{number}")
added = sorted(id for id in jobs() if id.startswith("often-"))
assert added == [f"often-{number}" for number in range(JOBS)], added
print("told")
