"""The story, told by azure-batch 14.2."""

import datetime

from azure.batch import BatchServiceClient, models
from azure.batch.batch_auth import SharedKeyCredentials

import story


class Service:
    Error = models.BatchErrorException

    def __init__(self, url, account, key):
        self.client = BatchServiceClient(SharedKeyCredentials(account, key), batch_url=url)
        # Trying again would hide a refusal that should not be.
        self.client.config.retry_policy.retries = 1

    def code(self, error):
        return error.error.code

    def pool(self, id, size, nodes, slots, inter_node, start=None, low=None):
        image = models.ImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
        machine = models.VirtualMachineConfiguration(image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
        self.client.pool.add(models.PoolAddParameter(
            id=id, vm_size=size, virtual_machine_configuration=machine, target_dedicated_nodes=nodes, target_low_priority_nodes=low,
            task_slots_per_node=slots, enable_inter_node_communication=inter_node,
            start_task=models.StartTask(command_line=start, wait_for_success=True) if start else None))

    def starts(self, pool):
        infos = [node.start_task_info for node in self.client.compute_node.list(pool)]
        return [(info.state.value, info.result.value, info.exit_code) for info in infos]

    def prepared(self, job):
        rows = []
        for row in self.client.job.list_preparation_and_release_task_status(job):
            before, after = row.job_preparation_task_execution_info, row.job_release_task_execution_info
            rows.append((row.node_id, before.state.value, before.result.value, after and after.result.value))
        return rows

    def pools(self):
        return [pool.id for pool in self.client.pool.list()]

    def pool_exists(self, id):
        return self.client.pool.exists(id)

    def allocation(self, id):
        pool = self.client.pool.get(id)
        return pool.allocation_state.value, pool.current_dedicated_nodes, pool.resize_errors

    def scale(self, id, formula):
        self.client.pool.enable_auto_scale(id, auto_scale_formula=formula)

    def evaluate(self, id, formula):
        run = self.client.pool.evaluate_auto_scale(id, formula)
        return run.results, run.error and run.error.code

    def scaled(self, id):
        pool = self.client.pool.get(id)
        run = pool.auto_scale_run
        return pool.enable_auto_scale, run and run.results, run and run.error

    def stop_scaling(self, id):
        self.client.pool.disable_auto_scale(id)

    def delete_pool(self, id):
        self.client.pool.delete(id)

    def reboot(self, pool, node):
        self.client.compute_node.reboot(pool, node)

    def login(self, pool, node):
        settings = self.client.compute_node.get_remote_login_settings(pool, node)
        return settings.remote_login_ip_address, settings.remote_login_port

    def applications(self):
        return list(self.client.application.list())

    def nodes(self, pool):
        return {node.id: node.state.value for node in self.client.compute_node.list(pool)}

    def low(self, pool):
        """(how many low-priority nodes it has or wants again, how many of them were taken back, are tasks' nodes dedicated)"""
        nodes = list(self.client.compute_node.list(pool))
        preempted = [node for node in nodes if node.state.value == "preempted"]
        return self.client.pool.get(pool).current_low_priority_nodes, len(preempted), [node.is_dedicated for node in nodes]

    def node_counts(self):
        counts = self.client.account.list_pool_node_counts()
        return {pool.pool_id: (pool.dedicated.idle, pool.dedicated.total) for pool in counts}

    def stats(self, job, task, pool):
        of_job = self.client.job.get(job, models.JobGetOptions(expand="stats")).stats
        of_task = self.client.task.get(job, task, models.TaskGetOptions(expand="stats")).stats
        listed = {job.id: job.stats for job in self.client.job.list(models.JobListOptions(select="id,stats"))}
        of_pool = self.client.pool.get(pool, models.PoolGetOptions(select="stats")).stats
        assert listed[job].num_succeeded_tasks == of_job.num_succeeded_tasks
        cpu = of_task.user_cpu_time + of_task.kernel_cpu_time
        return of_job.num_succeeded_tasks, of_job.wall_clock_time, cpu, of_pool.usage_stats.dedicated_core_time

    def metered(self):
        return {pool.pool_id: pool.total_core_hours for pool in self.client.pool.list_usage_metrics()}

    def images(self):
        return [image.node_agent_sku_id for image in self.client.account.list_supported_images()]

    def job(self, id, pool, dependencies=False, auto=False, before=None, after=None, manager=None, priority=None, yields=None):
        info = models.PoolInformation(pool_id=pool)
        if auto:
            image = models.ImageReference(publisher="canonical", offer="ubuntuserver", sku="18.04-lts")
            machine = models.VirtualMachineConfiguration(
                image_reference=image, node_agent_sku_id="batch.node.ubuntu 18.04")
            size = auto if isinstance(auto, str) else "main"
            like = models.PoolSpecification(vm_size=size, virtual_machine_configuration=machine, target_dedicated_nodes=1)
            info = models.PoolInformation(auto_pool_specification=models.AutoPoolSpecification(
                auto_pool_id_prefix="mine", pool_lifetime_option="job", keep_alive=False, pool=like))
        self.client.job.add(models.JobAddParameter(
            id=id, pool_info=info, priority=priority, allow_task_preemption=yields, uses_task_dependencies=dependencies,
            job_manager_task=models.JobManagerTask(id="Boss", command_line=manager) if manager else None,
            job_preparation_task=models.JobPreparationTask(command_line=before) if before else None,
            job_release_task=models.JobReleaseTask(command_line=after) if after else None))

    def schedule(self, id, pool, command, every_s=None):
        manager = models.JobManagerTask(id="Boss", command_line=command)
        like = models.JobSpecification(pool_info=models.PoolInformation(pool_id=pool), job_manager_task=manager)
        times = models.Schedule(recurrence_interval=datetime.timedelta(seconds=every_s) if every_s else None)
        self.client.job_schedule.add(models.JobScheduleAddParameter(id=id, schedule=times, job_specification=like))

    def schedule_state(self, id):
        schedule = self.client.job_schedule.get(id)
        info = schedule.execution_info
        return schedule.state.value, info.recent_job and info.recent_job.id, info.next_run_time

    def jobs_of(self, schedule):
        return [(job.id, job.state.value) for job in self.client.job.list_from_job_schedule(schedule)]

    def schedules(self, filter):
        options = models.JobScheduleListOptions(filter=filter)
        return [schedule.id for schedule in self.client.job_schedule.list(options)]

    def disable_schedule(self, id):
        self.client.job_schedule.disable(id)

    def enable_schedule(self, id):
        self.client.job_schedule.enable(id)

    def delete_schedule(self, id):
        self.client.job_schedule.delete(id)

    def pool_of(self, job):
        return self.client.job.get(job).execution_info.pool_id

    def scheduling_error(self, job):
        return self.client.job.get(job).execution_info.scheduling_error.code

    def has_job(self, id):
        return any(job.id == id for job in self.client.job.list())

    def job_state(self, id):
        job = self.client.job.get(id)
        return job.state.value, job.execution_info.terminate_reason

    def end_when_complete(self, id):
        self.client.job.patch(id, models.JobPatchParameter(on_all_tasks_complete="terminateJob"))

    def terminate(self, id, reason):
        self.client.job.terminate(id, terminate_reason=reason)

    def disable(self, id):
        self.client.job.disable(id, "requeue")

    def enable(self, id):
        self.client.job.enable(id)

    def delete_job(self, id):
        self.client.job.delete(id)

    def task(self, job, id, command, environment=None, after=None, retries=None, instances=None, inputs=(), outputs=(), near=None):
        settings = [models.EnvironmentSetting(name=name, value=value) for name, value in (environment or {}).items()]
        depends = models.TaskDependencies(task_ids=after) if after else None
        limits = models.TaskConstraints(max_task_retry_count=retries) if retries is not None else None
        multi = models.MultiInstanceSettings(
            number_of_instances=instances, coordination_command_line="/bin/sh -c 'hostname > ../here'") if instances else None
        files = [models.ResourceFile(**file) for file in inputs]
        results = [models.OutputFile(
            file_pattern=pattern,
            destination=models.OutputFileDestination(
                container=models.OutputFileBlobContainerDestination(container_url=url, path=path)),
            upload_options=models.OutputFileUploadOptions(upload_condition="taskCompletion"))
            for pattern, url, path in outputs]
        self.client.task.add(job, models.TaskAddParameter(
            id=id, command_line=command, environment_settings=settings, depends_on=depends, constraints=limits,
            affinity_info=models.AffinityInformation(affinity_id=near) if near else None, multi_instance_settings=multi, resource_files=files, output_files=results))

    def tasks(self, job, tasks):
        self.client.task.add_collection(job, [models.TaskAddParameter(id=id, command_line=line) for id, line in tasks])

    def get(self, job, id):
        return self.client.task.get(job, id)

    def list(self, job, filter, select, page=None):
        options = models.TaskListOptions(filter=filter, select=select, max_results=page)
        return [task.id for task in self.client.task.list(job, options)]

    def counts(self, job):
        counts = self.client.job.get_task_counts(job).task_counts
        return counts.active, counts.running, counts.completed, counts.succeeded, counts.failed

    def end_task(self, job, id):
        self.client.task.terminate(job, id)

    def reactivate(self, job, id):
        self.client.task.reactivate(job, id)

    def delete_task(self, job, id):
        self.client.task.delete(job, id)

    def files(self, job, id, recursive=False, filter=None):
        options = models.FileListFromTaskOptions(filter=filter)
        return [file.name for file in self.client.file.list_from_task(job, id, recursive, options)]

    def read(self, job, id, path, range=None):
        options = models.FileGetFromTaskOptions(ocp_range=range)
        return b"".join(self.client.file.get_from_task(job, id, path, options))

    def read_of_node(self, pool, node, path):
        return b"".join(self.client.file.get_from_compute_node(pool, node, path))

    def size(self, job, id, path):
        answer = self.client.file.get_properties_from_task(job, id, path, raw=True)
        return int(answer.response.headers["Content-Length"])

    def delete_file(self, job, id, path):
        self.client.file.delete_from_task(job, id, path)

    def subtasks(self, job, id):
        return self.client.task.list_subtasks(job, id).value


url, account, key, work = story.address()
story.tell(Service(url, account, key), work)
