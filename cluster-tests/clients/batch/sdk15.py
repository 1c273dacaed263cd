"""The story, told by azure-batch 15.1."""

import datetime

from azure.batch import BatchClient, models
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

import story


class Service:
    Error = HttpResponseError

    def __init__(self, url, account, key):
        self.client = BatchClient(url, AzureNamedKeyCredential(account, key), retry_total=1)

    def code(self, error):
        if error.model:
            return error.model.code
        # Of what it streams the SDK does not read the error itself.
        error.response.read()
        return error.response.json()["code"]

    def pool(self, id, size, nodes, slots, inter_node, start=None, low=None):
        image = models.BatchVmImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
        machine = models.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
        self.client.create_pool(models.BatchPoolCreateOptions(
            id=id, vm_size=size, virtual_machine_configuration=machine, target_dedicated_nodes=nodes, target_low_priority_nodes=low,
            task_slots_per_node=slots, enable_inter_node_communication=inter_node,
            start_task=models.BatchStartTask(command_line=start, wait_for_success=True) if start else None))

    def starts(self, pool):
        infos = [node.start_task_info for node in self.client.list_nodes(pool)]
        return [(info.state.value, info.result.value, info.exit_code) for info in infos]

    def prepared(self, job):
        rows = []
        for row in self.client.list_job_preparation_and_release_task_status(job):
            before, after = row.job_preparation_task_execution_info, row.job_release_task_execution_info
            rows.append((row.node_id, before.state.value, before.result.value, after and after.result.value))
        return rows

    def pools(self):
        return [pool.id for pool in self.client.list_pools()]

    def pool_exists(self, id):
        try:
            return self.client.pool_exists(id)
        except ResourceNotFoundError:
            return False

    def allocation(self, id):
        pool = self.client.get_pool(id)
        return pool.allocation_state.value, pool.current_dedicated_nodes, pool.resize_errors

    def scale(self, id, formula):
        self.client.enable_pool_auto_scale(id, models.BatchPoolEnableAutoScaleOptions(auto_scale_formula=formula))

    def evaluate(self, id, formula):
        run = self.client.evaluate_pool_auto_scale(
            id, models.BatchPoolEvaluateAutoScaleOptions(auto_scale_formula=formula))
        return run.results, run.error and run.error.code

    def scaled(self, id):
        pool = self.client.get_pool(id)
        run = pool.auto_scale_run
        return pool.enable_auto_scale, run and run.results, run and run.error

    def stop_scaling(self, id):
        self.client.disable_pool_auto_scale(id)

    def delete_pool(self, id):
        self.client.begin_delete_pool(id, polling_interval=1).result()

    def reboot(self, pool, node):
        # 15.1 fails without options before it sends anything.
        options = {"nodeRebootOption": "requeue"}
        self.client.begin_reboot_node(pool, node, options=options, polling_interval=1).result()

    def login(self, pool, node):
        settings = self.client.get_node_remote_login_settings(pool, node)
        return settings.remote_login_ip_address, settings.remote_login_port

    def applications(self):
        return list(self.client.list_applications())

    def nodes(self, pool):
        return {node.id: node.state.value for node in self.client.list_nodes(pool)}

    def low(self, pool):
        """(how many low-priority nodes it has or wants again, how many of them were taken back, are tasks' nodes dedicated)"""
        nodes = list(self.client.list_nodes(pool))
        preempted = [node for node in nodes if node.state.value == "preempted"]
        return self.client.get_pool(pool).current_low_priority_nodes, len(preempted), [node.is_dedicated for node in nodes]

    def node_counts(self):
        counts = self.client.list_pool_node_counts()
        return {pool.pool_id: (pool.dedicated.idle, pool.dedicated.total) for pool in counts}

    def stats(self, job, task, pool):
        of_job = self.client.get_job(job, expand=["stats"]).job_statistics
        of_task = self.client.get_task(job, task, expand=["stats"]).task_statistics
        listed = {job.id: job.job_statistics for job in self.client.list_jobs(select=["id", "stats"])}
        of_pool = self.client.get_pool(pool, select=["stats"]).pool_statistics
        assert listed[job].succeeded_tasks_count == of_job.succeeded_tasks_count
        cpu = of_task.user_cpu_time + of_task.kernel_cpu_time
        return of_job.succeeded_tasks_count, of_job.wall_clock_time, cpu, of_pool.usage_statistics.dedicated_core_time

    def metered(self):
        return {pool.pool_id: pool.total_core_hours for pool in self.client.list_pool_usage_metrics()}

    def images(self):
        return [image.node_agent_sku_id for image in self.client.list_supported_images()]

    def job(self, id, pool, dependencies=False, auto=False, before=None, after=None, manager=None, priority=None, yields=None):
        info = models.BatchPoolInfo(pool_id=pool)
        if auto:
            image = models.BatchVmImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
            machine = models.VirtualMachineConfiguration(
                image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
            size = auto if isinstance(auto, str) else "main"
            like = models.BatchPoolSpecification(
                vm_size=size, virtual_machine_configuration=machine, target_dedicated_nodes=1)
            info = models.BatchPoolInfo(auto_pool_specification=models.BatchAutoPoolSpecification(
                auto_pool_id_prefix="mine", pool_lifetime_option="job", keep_alive=False, pool=like))
        self.client.create_job(models.BatchJobCreateOptions(
            id=id, pool_info=info, priority=priority, allow_task_preemption=yields, uses_task_dependencies=dependencies,
            job_manager_task=models.BatchJobManagerTask(id="Boss", command_line=manager) if manager else None,
            job_preparation_task=models.BatchJobPreparationTask(command_line=before) if before else None,
            job_release_task=models.BatchJobReleaseTask(command_line=after) if after else None))

    def schedule(self, id, pool, command, every_s=None):
        manager = models.BatchJobManagerTask(id="Boss", command_line=command)
        like = models.BatchJobSpecification(pool_info=models.BatchPoolInfo(pool_id=pool), job_manager_task=manager)
        times = models.BatchJobScheduleConfiguration(
            recurrence_interval=datetime.timedelta(seconds=every_s) if every_s else None)
        self.client.create_job_schedule(
            models.BatchJobScheduleCreateOptions(id=id, schedule=times, job_specification=like))

    def schedule_state(self, id):
        schedule = self.client.get_job_schedule(id)
        info = schedule.execution_info
        return schedule.state.value, info.recent_job and info.recent_job.id, info.next_run_time

    def jobs_of(self, schedule):
        return [(job.id, job.state.value) for job in self.client.list_jobs_from_schedule(schedule)]

    def schedules(self, filter):
        return [schedule.id for schedule in self.client.list_job_schedules(filter=filter)]

    def disable_schedule(self, id):
        self.client.disable_job_schedule(id)

    def enable_schedule(self, id):
        self.client.enable_job_schedule(id)

    def delete_schedule(self, id):
        self.client.begin_delete_job_schedule(id, polling_interval=1).result()

    def pool_of(self, job):
        return self.client.get_job(job).execution_info.pool_id

    def scheduling_error(self, job):
        return self.client.get_job(job).execution_info.scheduling_error.code

    def has_job(self, id):
        return any(job.id == id for job in self.client.list_jobs())

    def job_state(self, id):
        job = self.client.get_job(id)
        return job.state.value, job.execution_info.termination_reason

    def end_when_complete(self, id):
        self.client.update_job(id, models.BatchJobUpdateOptions(all_tasks_complete_mode="terminatejob"))

    def terminate(self, id, reason):
        # 15.1 fails without options before it sends anything.
        self.client.begin_terminate_job(id, options={"terminateReason": reason}, polling_interval=1).result()

    def disable(self, id):
        options = models.BatchJobDisableOptions(disable_tasks="requeue")
        self.client.begin_disable_job(id, options, polling_interval=1).result()

    def enable(self, id):
        self.client.begin_enable_job(id, polling_interval=1).result()

    def delete_job(self, id):
        self.client.begin_delete_job(id, polling_interval=1).result()

    def task(self, job, id, command, environment=None, after=None, retries=None, instances=None, inputs=(), outputs=(), near=None):
        settings = [models.EnvironmentSetting(name=name, value=value) for name, value in (environment or {}).items()]
        depends = models.BatchTaskDependencies(task_ids=after) if after else None
        limits = models.BatchTaskConstraints(max_task_retry_count=retries) if retries is not None else None
        multi = models.MultiInstanceSettings(
            number_of_instances=instances, coordination_command_line="/bin/sh -c 'hostname > ../here'") if instances else None
        files = [models.ResourceFile(**file) for file in inputs]
        results = [models.OutputFile(
            file_pattern=pattern,
            destination=models.OutputFileDestination(
                container=models.OutputFileBlobContainerDestination(container_url=url, path=path)),
            upload_options=models.OutputFileUploadConfiguration(upload_condition="taskcompletion"))
            for pattern, url, path in outputs]
        self.client.create_task(job, models.BatchTaskCreateOptions(
            id=id, command_line=command, environment_settings=settings, depends_on=depends, constraints=limits,
            affinity_info=models.BatchAffinityInfo(affinity_id=near) if near else None, multi_instance_settings=multi, resource_files=files, output_files=results))

    def tasks(self, job, tasks):
        self.client.create_tasks(job, [models.BatchTaskCreateOptions(id=id, command_line=line) for id, line in tasks])

    def get(self, job, id):
        return self.client.get_task(job, id)

    def list(self, job, filter, select, page=None):
        select = select.split(",") if select else None
        return [task.id for task in self.client.list_tasks(job, filter=filter, select=select, max_results=page)]

    def counts(self, job):
        counts = self.client.get_job_task_counts(job).task_counts
        return counts.active, counts.running, counts.completed, counts.succeeded, counts.failed

    def end_task(self, job, id):
        self.client.terminate_task(job, id)

    def reactivate(self, job, id):
        self.client.reactivate_task(job, id)

    def delete_task(self, job, id):
        self.client.delete_task(job, id)

    def files(self, job, id, recursive=False, filter=None):
        return [file.name for file in self.client.list_task_files(job, id, recursive=recursive, filter=filter)]

    def read(self, job, id, path, range=None):
        return b"".join(self.client.download_task_file(job, id, path, ocp_range=range))

    def read_of_node(self, pool, node, path):
        return b"".join(self.client.download_node_file(pool, node, path))

    def size(self, job, id, path):
        return self.client.get_task_file_properties(job, id, path).content_length

    def delete_file(self, job, id, path):
        self.client.delete_task_file(job, id, path)

    def subtasks(self, job, id):
        return list(self.client.list_subtasks(job, id))


url, account, key, work = story.address()
story.tell(Service(url, account, key), work)
