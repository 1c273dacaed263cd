"""What pools and tasks have on their nodes, as both generations of the SDK ask for it: application packages, mounts, and files of the
account's own store. setup.py 14|15 URL ACCOUNT KEYFILE WORK SHARED; the packages and files were brought there by `muster batch`.
"""

import sys

from story import refused, until


class Older:
    def __init__(self, url, account, key):
        from azure.batch import BatchServiceClient, models
        from azure.batch.batch_auth import SharedKeyCredentials
        self.models, self.Error = models, models.BatchErrorException
        self.client = BatchServiceClient(SharedKeyCredentials(account, key), batch_url=url)
        self.client.config.retry_policy.retries = 1

    def code(self, error):
        return error.error.code

    def applications(self):
        return {app.id: app.versions for app in self.client.application.list()}

    def application(self, id):
        return self.client.application.get(id)

    def packages(self, packages):
        reference = self.models.ApplicationPackageReference
        return [reference(application_id=id, version=version) for id, version in packages]

    def pool(self, id, nodes, packages=(), mounts=(), start=None):
        m = self.models
        image = m.ImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
        machine = m.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
        mounts = [m.MountConfiguration(**{
            "azure_blob_file_system_configuration": m.AzureBlobFileSystemConfiguration(
                account_name="a", container_name="c", relative_mount_path=path, account_key="k")} if source == "blob" else {
            "nfs_mount_configuration": m.NFSMountConfiguration(
                source=source, relative_mount_path=path, mount_options=options)}) for source, path, options in mounts]
        self.client.pool.add(m.PoolAddParameter(
            id=id, vm_size="main", virtual_machine_configuration=machine, target_dedicated_nodes=nodes, task_slots_per_node=1,
            application_package_references=self.packages(packages), mount_configuration=mounts or None,
            start_task=m.StartTask(command_line=start, wait_for_success=True) if start else None))

    def pool_of(self, id):
        return self.client.pool.get(id)

    def delete_pool(self, id):
        self.client.pool.delete(id)

    def pools(self):
        return [pool.id for pool in self.client.pool.list()]

    def nodes(self, pool):
        return list(self.client.compute_node.list(pool))

    def job(self, id, pool):
        self.client.job.add(self.models.JobAddParameter(id=id, pool_info=self.models.PoolInformation(pool_id=pool)))

    def task(self, job, id, command, packages=(), files=()):
        m = self.models
        self.client.task.add(job, m.TaskAddParameter(
            id=id, command_line=command, application_package_references=self.packages(packages),
            resource_files=[m.ResourceFile(**file) for file in files]))

    def get(self, job, id):
        return self.client.task.get(job, id)

    def read(self, job, id, path):
        return b"".join(self.client.file.get_from_task(job, id, path)).decode()


class Newer:
    def __init__(self, url, account, key):
        from azure.batch import BatchClient, models
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.core.exceptions import HttpResponseError
        self.models, self.Error = models, HttpResponseError
        self.client = BatchClient(url, AzureNamedKeyCredential(account, key), retry_total=1)

    def code(self, error):
        return error.model.code

    def applications(self):
        return {app.id: app.versions for app in self.client.list_applications()}

    def application(self, id):
        return self.client.get_application(id)

    def packages(self, packages):
        reference = self.models.BatchApplicationPackageReference
        return [reference(application_id=id, version=version) for id, version in packages]

    def pool(self, id, nodes, packages=(), mounts=(), start=None):
        m = self.models
        image = m.BatchVmImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
        machine = m.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
        mounts = [m.MountConfiguration(**{
            "azure_blob_file_system_configuration": m.AzureBlobFileSystemConfiguration(
                account_name="a", container_name="c", relative_mount_path=path, account_key="k")} if source == "blob" else {
            "nfs_mount_configuration": m.NfsMountConfiguration(
                source=source, relative_mount_path=path, mount_options=options)}) for source, path, options in mounts]
        self.client.create_pool(m.BatchPoolCreateOptions(
            id=id, vm_size="main", virtual_machine_configuration=machine, target_dedicated_nodes=nodes, task_slots_per_node=1,
            application_package_references=self.packages(packages), mount_configuration=mounts or None,
            start_task=m.BatchStartTask(command_line=start, wait_for_success=True) if start else None))

    def pool_of(self, id):
        return self.client.get_pool(id)

    def delete_pool(self, id):
        self.client.begin_delete_pool(id)

    def pools(self):
        return [pool.id for pool in self.client.list_pools()]

    def nodes(self, pool):
        return list(self.client.list_nodes(pool))

    def job(self, id, pool):
        m = self.models
        self.client.create_job(m.BatchJobCreateOptions(id=id, pool_info=m.BatchPoolInfo(pool_id=pool)))

    def task(self, job, id, command, packages=(), files=()):
        m = self.models
        self.client.create_task(job, m.BatchTaskCreateOptions(
            id=id, command_line=command, application_package_references=self.packages(packages),
            resource_files=[m.ResourceFile(**file) for file in files]))

    def get(self, job, id):
        return self.client.get_task(job, id)

    def read(self, job, id, path):
        return b"".join(self.client.download_task_file(job, id, path)).decode()


def states(service, pool):
    return sorted(node.state.value for node in service.nodes(pool))


def ended(service, job, id):
    def completed():
        task = service.get(job, id)
        return task if task.state.lower() == "completed" else None
    return until(f"task {id} has completed", completed)


def tell(service, work, shared):
    assert service.applications() == {"Broken": ["1"], "Tool": ["1.0", "2.0"]}, service.applications()
    assert service.application("TOOL").versions == ["1.0", "2.0"]
    refused(service, "ApplicationNotFound", lambda: service.application("none"))
    invalid = "InvalidApplicationPackageReferences"
    refused(service, invalid, lambda: service.pool("Wrong", 1, packages=[("none", None)]))
    refused(service, invalid, lambda: service.pool("Wrong", 1, packages=[("tool", "3.0")]))
    refused(service, invalid, lambda: service.pool("Wrong", 1, packages=[("broken", None)]))
    refused(service, "InvalidPropertyValue", lambda: service.pool("Wrong", 1, mounts=[("file:///etc", "etc", "ro")]))
    listed = f"file://{shared}"
    refused(service, "InvalidPropertyValue", lambda: service.pool("Wrong", 1, mounts=[(listed, "data", "suid")]))
    refused(service, "InvalidPropertyValue", lambda: service.pool("Wrong", 1, mounts=[(f"{listed}/../etc", "data", "ro")]))
    refused(service, "UnsupportedProperty", lambda: service.pool("Wrong", 1, mounts=[("blob", "data", None)]))
    assert service.pools() == []
    # The start task finds both, and so do tasks.
    start = "/bin/sh -c '$AZ_BATCH_APP_PACKAGE_Tool/bin/tool && test -e $AZ_BATCH_NODE_MOUNTS_DIR/data/input'"
    service.pool("Fine", 1, packages=[("TOOL", None)], mounts=[(listed, "data", "ro")], start=start)
    until("the node is ready", lambda: states(service, "Fine") == ["idle"])
    shown = service.pool_of("Fine")
    assert shown.application_package_references[0].application_id == "TOOL", shown
    service.job("Job", "Fine")
    uses = "/bin/sh -c '$AZ_BATCH_APP_PACKAGE_Tool/bin/tool; cat $AZ_BATCH_NODE_MOUNTS_DIR/data/input; touch $AZ_BATCH_NODE_MOUNTS_DIR/data/x || echo read-only; touch $AZ_BATCH_APP_PACKAGE_Tool/x || echo not mine'"
    service.task("Job", "uses", uses)
    service.task("Job", "both", "/bin/sh -c '$AZ_BATCH_APP_PACKAGE_Tool/bin/tool; $AZ_BATCH_APP_PACKAGE_Tool_1_0/bin/tool'", packages=[("tool", "1.0")])
    service.task("Job", "broken", "true", packages=[("broken", "1")])
    refused(service, invalid, lambda: service.task("Job", "none", "true", packages=[("tool", "4")]))
    stored = [{"auto_storage_container_name": "data", "blob_prefix": "in/", "file_path": "from"}]
    service.task("Job", "stored", "/bin/sh -c 'cat from/in/a from/in/b; ls from/in'", files=stored)
    missing = [{"auto_storage_container_name": "nothing", "file_path": "x"}]
    service.task("Job", "missing", "true", files=missing)
    wrong = [{"auto_storage_container_name": "No Container"}]
    refused(service, "InvalidPropertyValue", lambda: service.task("Job", "wrong", "true", files=wrong))
    assert ended(service, "Job", "uses").execution_info.exit_code == 0
    assert service.read("Job", "uses", "stdout.txt") == "tool 2\nshared\nread-only\nnot mine\n"
    assert ended(service, "Job", "both").execution_info.exit_code == 0
    assert service.read("Job", "both", "stdout.txt") == "tool 2\ntool 1\n"
    info = ended(service, "Job", "broken").execution_info
    assert info.failure_info.code == "ApplicationPackageError" and info.retry_count == 0, info
    assert ended(service, "Job", "stored").execution_info.exit_code == 0
    assert service.read("Job", "stored", "stdout.txt") == "one\ntwo\na\nb\n"
    info = ended(service, "Job", "missing").execution_info
    assert info.failure_info.code == "BlobNotFound", info
    # A node that cannot have what its pool wants is good for nothing, and says why.
    service.pool("Bad", 1, packages=[("broken", "1"), ("tool", "2.0")])
    until("the node is unusable", lambda: states(service, "Bad") == ["unusable"])
    node = service.nodes("Bad")[0]
    assert [error.code for error in node.errors] == ["ApplicationPackageError"], node.errors
    assert "cannot be unpacked" in node.errors[0].message, node.errors
    service.delete_pool("Bad")
    service.delete_pool("Fine")
    until("the pools are gone", lambda: service.pools() == [])
    print("told")


if __name__ == "__main__":
    kind, url, account, key, work, shared = sys.argv[1:]
    with open(key) as file:
        tell({"14": Older, "15": Newer}[kind](url, account, file.read().strip()), work, shared)
