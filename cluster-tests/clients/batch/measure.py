"""Measures the batch service through azure-batch 15.1: measure.py URL ACCOUNT KEY_FILE finish|list COUNT SLOTS.

The last line is an object of what was measured.
"""

import json
import statistics
import sys
import time

from azure.batch import BatchClient, models
from azure.core.credentials import AzureNamedKeyCredential

url, account, key, what, count, slots = sys.argv[1:]
count = int(count)
with open(key) as file:
    client = BatchClient(url, AzureNamedKeyCredential(account, file.read().strip()))


def say(name, value):
    print(f"{name:34} {value}", flush=True)


def add(job, pool):
    client.create_job(models.BatchJobCreateOptions(id=job, pool_info=models.BatchPoolInfo(pool_id=pool)))
    begin = time.monotonic()
    client.create_tasks(job, [models.BatchTaskCreateOptions(id=f"t{i:06}", command_line="/bin/true") for i in range(count)])
    return begin, time.monotonic()


def finish():
    image = models.BatchVmImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
    machine = models.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
    client.create_pool(models.BatchPoolCreateOptions(
        id="pool", vm_size="main", virtual_machine_configuration=machine, target_dedicated_nodes=1, task_slots_per_node=int(slots)))
    while client.get_pool("pool").current_dedicated_nodes != 1:
        time.sleep(0.05)
    begin, added = add("many", "pool")
    while True:
        counts = client.get_job_task_counts("many").task_counts
        if counts.completed == count:
            break
        time.sleep(0.1)
    end = time.monotonic()
    assert counts.failed == 0, counts
    say("added", f"{added - begin:9.2f} s, {count / (added - begin):.0f} tasks/s")
    say("added and finished", f"{end - begin:9.2f} s, {count / (end - begin):.0f} tasks/s")
    print(json.dumps({"added_per_s": count / (added - begin), "finished_per_s": count / (end - begin)}))


def list_many():
    begin, added = add("listed", "nowhere")
    say(f"{count} added, that wait", f"{added - begin:9.2f} s, {count / (added - begin):.0f} tasks/s")
    last = f"t{count - 1:06}"
    medians = []
    for filter, expected in ((f"startswith(id, '{last[:-1]}')", 10), ("state eq 'running'", 0)):
        times = []
        for _ in range(20):
            begin = time.monotonic()
            found = len(list(client.list_tasks("listed", filter=filter, select=["id"])))
            times.append(time.monotonic() - begin)
            assert found == expected, (filter, found)
        times.sort()
        medians.append(statistics.median(times) * 1000)
        say(filter, f"{statistics.median(times) * 1000:9.1f} ms median of 20, {times[-1] * 1000:.1f} ms the longest")
    print(json.dumps({"found_ms": medians[0], "nothing_ms": medians[1]}))


{"finish": finish, "list": list_many}[what]()
