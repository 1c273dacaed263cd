"""Containers of pools and tasks, as both generations of the SDK ask for them: containers.py 14|15 URL ACCOUNT KEYFILE IMAGES LISTED.

IMAGES is the folder with the archive tool.tar, from which images may come; LISTED a folder that containers may have.
"""

import sys

from setup import Newer, Older, ended, states
from story import refused, until


def machine(service, images, generation):
    """A pool's machine with these images; the generations name two of the classes differently."""
    m = service.models
    image = {"14": "ImageReference", "15": "BatchVmImageReference"}[generation]
    containers = {"14": "ContainerConfiguration", "15": "BatchContainerConfiguration"}[generation]
    containers = getattr(m, containers)(type="dockerCompatible", container_image_names=images)
    return m.VirtualMachineConfiguration(
        image_reference=getattr(m, image)(publisher="canonical", offer="ubuntuserver", sku="18.04-lts"),
        node_agent_sku_id="batch.node.ubuntu 18.04", container_configuration=containers)


def settings(service, image, generation, options=None, directory=None):
    kind = {"14": "TaskContainerSettings", "15": "BatchTaskContainerSettings"}[generation]
    return getattr(service.models, kind)(image_name=image, container_run_options=options, working_directory=directory)


def pool(service, id, images, generation, start=None, inter_node=False, nodes=1):
    m, more = service.models, dict(
        id=id, vm_size="main", virtual_machine_configuration=machine(service, images, generation), task_slots_per_node=1,
        target_dedicated_nodes=nodes, enable_inter_node_communication=inter_node)
    if generation == "14":
        start = m.StartTask(command_line=start[0], container_settings=start[1], wait_for_success=True) if start else None
        service.client.pool.add(m.PoolAddParameter(start_task=start, **more))
    else:
        start = m.BatchStartTask(command_line=start[0], container_settings=start[1], wait_for_success=True) if start else None
        service.client.create_pool(m.BatchPoolCreateOptions(start_task=start, **more))


def task(service, job, id, command, container, generation, coordination=None):
    m = service.models
    gang = m.MultiInstanceSettings(number_of_instances=2, coordination_command_line=coordination) if coordination else None
    more = dict(id=id, command_line=command, container_settings=container, multi_instance_settings=gang)
    if generation == "14":
        service.client.task.add(job, m.TaskAddParameter(**more))
    else:
        service.client.create_task(job, m.BatchTaskCreateOptions(**more))


def gang(service, generation, images):
    """MPI over two nodes, whose ranks have the image as their root on both; its programs and libraries are the nodes' own."""
    image = f"oci-archive:{images}/mpi.tar"
    pool(service, "Gang", [image], generation, inter_node=True, nodes=2)
    job = f"Gang{generation}"
    service.job(job, "Gang")
    own = "-v /usr:/usr:ro -v /etc/alternatives:/etc/alternatives:ro -v /etc/openmpi:/etc/openmpi:ro"
    hello = "sh -c 'cat together; mpirun --map-by node -n 2 cat /etc/image && mpirun --map-by node -n 2 python3 -m mpi4py.bench helloworld'"
    task(service, job, "mpi", hello, settings(service, image, generation, own), generation, "sh -c 'cat /etc/image > together'")
    info = ended(service, job, "mpi").execution_info
    said = service.read(job, "mpi", "stdout.txt") + service.read(job, "mpi", "stderr.txt")
    assert info.exit_code == 0, (info.failure_info, said)
    lines = sorted(said.splitlines())
    assert lines.count("the image of MPI") == 3, said
    hosts = {line.rsplit(" ", 1)[1] for line in lines if line.startswith("Hello, World! I am process")}
    assert len(hosts) == 2, said
    service.delete_pool("Gang")


def tell(service, generation, images, listed):
    image = f"oci-archive:{images}/tool.tar"

    def of(options=None, directory=None, name=image):
        return settings(service, name, generation, options, directory)

    refused(service, "InvalidPropertyValue", lambda: pool(service, "Wrong", ["evil.example/x"], generation))
    refused(service, "InvalidPropertyValue", lambda: pool(service, "Wrong", [f"oci-archive:{images}/../x.tar"], generation))
    start = ("/bin/sh -c 'cat /etc/image > started'", of())
    pool(service, "Boxes", [image], generation, start)
    # A node that cannot have an image is good for nothing, and says why.
    pool(service, "Bad", [f"oci-archive:{images}/none.tar"], generation)

    def is_ready():
        node = service.nodes("Boxes")[:1]
        assert not node or node[0].state.value not in ("unusable", "starttaskfailed"), [(error.code, error.message) for error in node[0].errors or []]
        return node and node[0].state.value == "idle"

    until("the node is ready", is_ready)
    until("the node is unusable", lambda: states(service, "Bad") == ["unusable"])
    node = service.nodes("Bad")[0]
    assert [error.code for error in node.errors] == ["ContainerInvalidImage"], node.errors
    assert "none.tar" in node.errors[0].message, node.errors
    service.delete_pool("Bad")
    job = f"Job{generation}"
    service.job(job, "Boxes")
    look = "sh -c 'cat /etc/image $AZ_BATCH_NODE_STARTUP_DIR/wd/started; echo $FROM $AZ_BATCH_TASK_ID; id -un; ls /; touch made; cat /data/input; touch /data/x || echo kept'"
    task(service, job, "look", look, of(f"--rm -v {listed}:/data:ro"), generation)
    task(service, job, "image", "cat image", of("--entrypoint ''", "containerImageDefault"), generation)
    task(service, job, "host", "/bin/sh -c 'test ! -e /etc/image && id -un'", None, generation)
    rights = "/bin/sh -c '/bin/su-id -u; cat /disk || echo no device; cat /etc/shadow || echo no shadow'"
    task(service, job, "rights", rights, of(), generation)
    task(service, job, "none", "no-such-program", of(), generation)
    task(service, job, "missing", "true", of(name=f"oci-archive:{images}/none.tar"), generation)
    for options in ["--privileged", "--user 0", "-v /etc:/data", "--device /dev/sda", "--pid host", f"-v {listed}/../..:/data"]:
        refused(service, "InvalidPropertyValue", lambda: task(service, job, "wrong", "true", of(options), generation))
    refused(service, "InvalidPropertyValue", lambda: task(service, job, "wrong", "true", of(name="evil.example/x"), generation))
    shown = ended(service, job, "look")
    assert shown.execution_info.exit_code == 0, shown.execution_info
    assert shown.container_settings.image_name == image, shown.container_settings
    said = service.read(job, "look", "stdout.txt").splitlines()
    assert said[:4] == ["the image", "the image", "image look", "ann"], said
    assert said[-2:] == ["shared", "kept"] and "home" not in said and "boot" not in said, said
    assert service.read(job, "look", "wd/made") == ""
    assert ended(service, job, "image").execution_info.exit_code == 0
    assert service.read(job, "image", "stdout.txt") == "the image\n"
    assert ended(service, job, "host").execution_info.exit_code == 0
    assert service.read(job, "host", "stdout.txt") == "ann\n"
    ended(service, job, "rights")
    said = service.read(job, "rights", "stdout.txt").splitlines()
    assert said[1:] == ["no device", "no shadow"] and said[0] != "0", said
    assert ended(service, job, "none").execution_info.failure_info.code == "CommandProgramNotFound"
    assert ended(service, job, "missing").execution_info.failure_info.code == "ContainerInvalidImage"
    service.delete_pool("Boxes")
    if generation == "15":
        gang(service, generation, images)
    until("the pools are gone", lambda: service.pools() == [])
    print("told")


if __name__ == "__main__":
    generation, url, account, key, images, listed = sys.argv[1:]
    with open(key) as file:
        service = {"14": Older, "15": Newer}[generation](url, account, file.read().strip())
    tell(service, generation, images, listed)
