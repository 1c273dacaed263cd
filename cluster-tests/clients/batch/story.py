"""What both generations of the SDK do with the service, told once. Each calls tell() with a thin Service of its own.

A Service has: pool(id, size, nodes, slots, inter_node, start, low), low(pool) -> (low-priority nodes, preempted ones, whether each node is dedicated), reboot(pool, node), login(pool, node) -> (address, port), applications(),
starts(pool) -> (state, result, exit code) of each start task,
schedule(id, pool, command, every_s), schedule_state(id) -> (state, recent job, next time), jobs_of(schedule) -> (id, state),
schedules(filter), disable_schedule(id), enable_schedule(id), delete_schedule(id),
prepared(job) -> (node, state, result of the preparation, result of the release) of each node, pools(), resize(id, nodes), allocation(id) -> (state, current, errors),
delete_pool(id), pool_exists(id), scale(id, formula), evaluate(id, formula) -> (results, code), scaled(id) -> (on, results,
error), stop_scaling(id), job(id, pool, **more), pool_of(job), scheduling_error(job), job_state(id) -> (state, reason), end_when_complete(id),
terminate(id, reason), disable(id), enable(id), delete_job(id), task(job, id, command, **more), tasks(job, list of
(id, command)), get(job, id), list(job, filter, select), counts(job) -> (active, running, completed, succeeded, failed),
stats(job, task, pool) -> (tasks that succeeded, their time, the task's CPU time, the pool's time of cores), metered() -> core hours by pool,
end_task(job, id), reactivate(job, id), delete_task(job, id), subtasks(job, id), nodes(pool), node_counts(), images(),
files(job, id, recursive, filter), read(job, id, path, range), read_of_node(pool, node, path), size(job, id, path),
delete_file(job, id, path), code(error) -> the protocol's code, and Error, its exception.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

WITHIN_S = 90


def until(what, holds):
    end = time.monotonic() + WITHIN_S
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < end, f"after {WITHIN_S} s still not: {what}"
        time.sleep(0.05)


def refused(service, code, call):
    try:
        call()
    except service.Error as error:
        found = service.code(error)
        assert found == code, f"{found} rather than {code}: {error}"
        return
    raise AssertionError(f"{code} was expected, and nothing was refused")


def tell(service, work):
    images = service.images()
    assert any(agent.startswith("batch.node") for agent in images), images
    refused(service, "InvalidPropertyValue", lambda: service.pool("Wrong", "huge", 1, 1, False))
    service.pool("Pool", "main", 2, 4, False)
    refused(service, "PoolExists", lambda: service.pool("pOOL", "main", 2, 4, False))
    until("the pool is steady", lambda: service.allocation("pool")[:2] == ("steady", 2))
    assert service.pools() == ["Pool"] and service.pool_exists("POOL")
    assert sorted(service.nodes("pool").values()) == ["idle", "idle"], service.nodes("pool")
    assert service.node_counts() == {"Pool": (2, 2)}, service.node_counts()
    node = min(service.nodes("pool"))
    refused(service, "OperationNotValidOnNode", lambda: service.reboot("pool", node))
    refused(service, "NodeNotFound", lambda: service.reboot("pool", "none"))
    address, port = service.login("pool", node)
    assert address and port == 22, (address, port)
    assert service.applications() == []
    jobs(service, work)
    scenario(service, work)
    many(service)
    ends(service)
    ranks(service)
    manages(service, work)
    schedules(service)
    gang(service, work)
    scales(service)
    service.delete_pool("Pool")
    until("the pool is gone", lambda: service.pools() == [])
    print("told")


def scales(service):
    until("the pool is steady", lambda: service.allocation("Pool")[0] == "steady")
    before = service.allocation("Pool")[1]
    refused(service, "OperationInvalidForCurrentState", lambda: service.evaluate("Pool", "$TargetDedicatedNodes = 1"))
    refused(service, "AutoScalingFormulaSyntaxError", lambda: service.scale("Pool", "$TargetDedicatedNodes ="))
    # Tasks for one node wait: with the pool's two, no more than the first is needed.
    service.scale("Pool", "$TargetDedicatedNodes = $CurrentDedicatedNodes - 1; $NodeDeallocationOption = taskcompletion")
    until("the pool has one node less", lambda: service.allocation("Pool")[:2] == ("steady", before - 1))
    on, results, error = service.scaled("Pool")
    assert on and error is None and f"$TargetDedicatedNodes={before - 1}" in results, (on, results, error)
    results, error = service.evaluate("Pool", "$a = $ActiveTasks.GetSample(TimeInterval_Week, 100)")
    assert error == "InsufficientSampleData", (results, error)
    service.stop_scaling("Pool")
    assert not service.scaled("Pool")[0]


def jobs(service, work):
    service.job("Job", "Pool", dependencies=True)
    refused(service, "JobExists", lambda: service.job("JOB", "Pool"))
    refused(service, "JobNotFound", lambda: service.task("none", "a", "true"))
    service.task("Job", "first", f"/bin/sh -c 'echo $AZ_BATCH_JOB_ID/$AZ_BATCH_TASK_ID $(id -un) $WORD ${{AZ_BATCH_TASK_WORKING_DIR#$AZ_BATCH_NODE_ROOT_DIR/}} $(basename $(pwd)) > {work}/first'", environment={"WORD": "a b"})
    service.task("Job", "second", f"/bin/sh -c 'cat {work}/first > {work}/second; echo said; mkdir \"out dir\"; echo 0123456789 > \"out dir/a.txt\"'", after=["first"])
    service.task("Job", "bad", "/bin/sh -c 'exit 7'", retries=1)
    refused(service, "TaskExists", lambda: service.task("Job", "FIRST", "true"))
    refused(service, "InvalidPropertyValue", lambda: service.task("Job", "open", "echo 'a"))
    until("three tasks have completed", lambda: service.counts("Job") == (0, 0, 3, 2, 1))
    with open(f"{work}/second") as file:
        assert file.read() == "Job/first ann a b workitems/job/job-1/first/wd wd\n"
    bad = service.get("job", "BAD")
    info = bad.execution_info
    assert (info.exit_code, info.retry_count, info.requeue_count) == (7, 1, 0), info
    assert info.failure_info.code == "FailureExitCode" and info.start_time <= info.end_time, info
    assert bad.previous_state.lower() == "running" and bad.node_info.pool_id == "Pool", bad
    assert service.list("Job", "executionInfo/result eq 'Failure'", "id") == ["bad"]
    assert service.list("Job", "state eq 'completed' and startswith(id, 'se')", "id,state") == ["second"]
    refused(service, "InvalidQueryParameterValue", lambda: service.list("Job", "nonsense eq 1", None))
    files(service)
    service.reactivate("Job", "bad")
    until("it has failed again", lambda: service.counts("Job") == (0, 0, 3, 2, 1))
    refused(service, "TaskSucceeded", lambda: service.reactivate("Job", "first"))
    service.delete_task("Job", "first")
    refused(service, "TaskNotFound", lambda: service.get("Job", "first"))
    service.delete_job("Job")
    until("the job is gone", lambda: not service.has_job("Job"))


def files(service):
    names = service.files("Job", "second", recursive=True)
    assert {"stdout.txt", "stderr.txt", "wd", "wd/out dir/a.txt"} <= set(names), names
    assert "wd/out dir/a.txt" not in service.files("Job", "second")
    assert service.files("Job", "second", recursive=True, filter="startswith(name, 'wd/out')") == ["wd/out dir", "wd/out dir/a.txt"]
    assert service.read("Job", "second", "stdout.txt") == b"said\n"
    path = "wd/out dir/a.txt"
    assert service.read("Job", "second", path) == b"0123456789\n"
    assert service.read("Job", "second", path, "bytes=2-5") == b"2345"
    assert service.size("Job", "second", path) == 11
    info = service.get("Job", "second").node_info
    assert service.read_of_node("Pool", info.node_id, info.task_root_directory + "/" + path) == b"0123456789\n"
    service.delete_file("Job", "second", path)
    refused(service, "FileNotFound", lambda: service.read("Job", "second", path))
    refused(service, "InvalidRange", lambda: service.read("Job", "second", "stdout.txt", "bytes=100-"))


def scenario(service, work):
    """The seven steps over each store: its own client has brought the inputs there (stores.py), the pool is there; a job, its tasks,
    which take their files from the store and bring results there; watch them, and fetch the results by their addresses.
    """
    with open(f"{work}/stores.json") as file:
        stores = json.load(file)
    trusted = f"{work}/tls.pem"
    trust = {"SSL_CERT_FILE": trusted} if os.path.exists(trusted) else {}
    for name, store in stores.items():
        job = f"scene-{name}"
        service.job(job, "Pool", dependencies=True)
        environment = store["environment"] | trust
        service.task(
            job, "one", "/bin/sh -c 'echo said; tr a-z A-Z < got/one.txt > one.txt'", environment=environment,
            inputs=[{"http_url": store["file"], "file_path": "got/one.txt"}],
            outputs=[("one.txt", store["results"], "out/one.txt"), ("../std*.txt", store["results"], "out/logs")])
        service.task(
            job, "all", "/bin/sh -c 'cat all/in/one.txt all/in/deep/two.txt all/out/one.txt'", environment=environment, after=["one"],
            inputs=[{"storage_container_url": store["container"], "file_path": "all"}])
        gone = [{"http_url": store["file"].replace("one.txt", "none.txt"), "file_path": "x"}]
        service.task(job, "missing", "true", environment=environment, inputs=gone)
    for name, store in stores.items():
        job = f"scene-{name}"
        until(f"the tasks of {job} have completed", lambda: service.counts(job)[2] == 3)
        info = {id: service.get(job, id).execution_info for id in ("one", "all", "missing")}
        assert [info[id].exit_code for id in ("one", "all")] == [0, 0], (name, info["one"], info["all"])
        assert info["missing"].failure_info.code in ("BlobNotFound", "BlobAccessDenied"), (name, info["missing"])
        assert service.read(job, "all", "stdout.txt") == b"one\ntwo\nONE\n", name
        results = [urllib.request.urlopen(url).read() for url in store["fetch"]]
        assert results == [b"ONE\n", b"said\n"], (name, results)
        service.delete_job(job)


def many(service):
    service.job("many", "Pool")
    service.tasks("many", [(f"t{i:03}", "true") for i in range(250)])
    # Those that are there already do no harm.
    service.tasks("many", [("t000", "true"), ("more", "true")])
    until("all have succeeded", lambda: service.counts("many") == (0, 0, 251, 251, 0))
    # It takes two seconds of a processor, however long it has to wait for them.
    service.task("many", "busy", "/bin/sh -c '(ulimit -t 2; while :; do :; done); true'")
    until("it has succeeded", lambda: service.counts("many")[3] == 252)
    succeeded, wall, cpu, cores = service.stats("many", "busy", "Pool")
    assert succeeded == 252 and wall.total_seconds() > 1 and cores.total_seconds() > 8, (succeeded, wall, cores)
    # Where the kernel does not count it, it is said as none.
    assert cpu.total_seconds() == 0 or 1.5 < cpu.total_seconds() < 20, cpu
    assert service.metered()["Pool"] > 0, service.metered()
    assert len(service.list("many", None, None, page=100)) == 252
    service.end_when_complete("many")
    until("the job has completed", lambda: service.job_state("many") == ("completed", "AllTasksComplete"))
    refused(service, "JobCompleted", lambda: service.task("many", "late", "true"))


def ends(service):
    service.job("ends", "Pool")
    service.task("ends", "long", "sleep 1000")
    until("it runs", lambda: service.counts("ends")[1] == 1)
    assert "running" in service.nodes("pool").values(), service.nodes("pool")
    service.disable("ends")
    until("the job is disabled", lambda: service.job_state("ends")[0] == "disabled")
    task = service.get("ends", "long")
    assert (task.state.lower(), task.execution_info.requeue_count) == ("active", 1), task
    service.enable("ends")
    until("it runs again", lambda: service.counts("ends")[1] == 1)
    service.end_task("ends", "long")
    until("it has ended", lambda: service.counts("ends") == (0, 0, 1, 0, 1))
    assert service.get("ends", "long").execution_info.failure_info.code == "TaskEnded"
    service.terminate("ends", "enough")
    until("the job has completed", lambda: service.job_state("ends") == ("completed", "enough"))


def ranks(service):
    """A task of a higher priority takes the place of one whose job allows it; a task goes where it would rather be."""
    service.job("low", "Pool", yields=True)
    service.tasks("low", [(f"t{i}", "sleep 1000") for i in range(8)])
    until("the pool is full", lambda: service.counts("low")[1] == 8)
    service.job("high", "Pool", priority=9)
    service.task("high", "a", "true")
    until("it has had a place", lambda: service.counts("high") == (0, 0, 1, 1, 0))
    infos = [service.get("low", f"t{i}").execution_info for i in range(8)]
    assert all((info.retry_count, info.requeue_count) == (0, 0) for info in infos), infos
    until("all of the others run again", lambda: service.counts("low")[1] == 8)
    service.delete_job("low")
    until("the job is gone", lambda: not service.has_job("low"))
    node = max(service.nodes("Pool"))
    service.task("high", "near", "true", near=node)
    until("it has ended", lambda: service.counts("high")[3] == 2)
    assert service.get("high", "near").node_info.affinity_id == node, service.get("high", "near").node_info


def own(service):
    """A job that brings its pool: each node of the cluster can be had, since the other pool is gone."""
    service.job("own", None, auto=True)
    service.task("own", "only", "true")
    service.end_when_complete("own")
    until("the job has completed", lambda: service.job_state("own") == ("completed", "AllTasksComplete"))
    assert service.pool_of("own").startswith("mine-"), service.pool_of("own")
    until("its pool is gone", lambda: service.pools() == [])
    service.job("lost", None, auto="huge")
    assert service.job_state("lost")[0] == "completed", service.job_state("lost")
    assert service.scheduling_error("lost") == "InvalidAutoPoolSettings"


def manages(service, work):
    """A manager task makes the other tasks of its job, with the token that it is given, and the job ends with it."""
    with open(f"{work}/manage.sh", "w") as file:
        file.write(f"""set -eu
ask() {{ # METHOD PATH [BODY]: prints the status
    curl -sk -o answer -w '%{{http_code}}' -X "$1" -H "Authorization: Bearer $AZ_BATCH_AUTHENTICATION_TOKEN" \\
        -H 'Content-Type: application/json' ${{3:+--data "$3"}} "$AZ_BATCH_ACCOUNT_URL/$2?api-version=2024-02-01.19.0"
}}
case "$(ask POST jobs/Managed/tasks '{{"id":"made","commandLine":"true"}}')" in 201|409) ;; *) cat answer; exit 2 ;; esac
test "$(ask GET jobs/many)" = 403
test "$(ask GET pools)" = 403
until ask GET jobs/managed/taskcounts >/dev/null && grep -q '"succeeded":1' answer; do sleep 0.1; done
umask 077; echo "$AZ_BATCH_AUTHENTICATION_TOKEN" > {work}/token
""")
    service.job("Managed", "Pool", manager=f"/bin/sh {work}/manage.sh")
    until("the job has completed", lambda: service.job_state("Managed") == ("completed", "JMComplete"))
    boss = service.get("Managed", "boss").execution_info
    assert boss.exit_code == 0, boss
    assert service.counts("Managed") == (0, 0, 2, 2, 0), service.counts("Managed")
    with open(f"{work}/token") as file:
        token = file.read().strip()
    request = urllib.request.Request(
        f"{sys.argv[1]}/jobs/Managed?api-version=2024-02-01.19.0", headers={"Authorization": f"Bearer {token}"})
    try:
        urllib.request.urlopen(request, context=ssl._create_unverified_context())
        raise AssertionError("the token has outlived its task")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error
    assert token not in str(service.get("Managed", "boss").as_dict())


def schedules(service):
    """A schedule without a recurrence makes one job and ends with it; one that recurs goes with what it has made."""
    refused(service, "JobWithSameIdExists", lambda: service.schedule("MANY", "Pool", "true"))
    refused(service, "InvalidPropertyValue", lambda: service.schedule("Often", "Pool", "true", every_s=1))
    service.schedule("Once", "Pool", "/bin/sh -c 'echo $AZ_BATCH_TASK_DIR'")
    until("the schedule has completed", lambda: service.schedule_state("once")[0] == "completed")
    assert service.jobs_of("once") == [("Once:job-1", "completed")], service.jobs_of("once")
    assert service.read("Once:job-1", "boss", "stdout.txt").decode().strip().endswith("/workitems/once/job-1/boss")
    service.schedule("Daily", "Pool", "sleep 1000", every_s=86400)
    until("its job runs", lambda: service.counts("Daily:job-1")[1] == 1)
    state, recent, following = service.schedule_state("Daily")
    assert (state, recent) == ("active", "Daily:job-1") and following is not None, (state, recent, following)
    service.disable_schedule("Daily")
    assert service.schedule_state("Daily")[0] == "disabled"
    service.enable_schedule("Daily")
    assert service.schedules("startswith(id, 'da')") == ["Daily"]
    service.delete_schedule("Daily")
    until("the schedule is gone", lambda: service.schedules(None) == ["Once"])
    assert not service.has_job("Daily:job-1")
    service.delete_schedule("Once")


def chores(service, work):
    """Nodes are made ready for a pool and for a job, and cleaned at the job's end."""
    service.pool("Ready", "main", 2, 1, False, start="/bin/sh -c 'echo $AZ_BATCH_NODE_STARTUP_DIR > ready; chmod 644 ready; test -z \"$AZ_BATCH_JOB_ID\"'")
    until("both nodes are started", lambda: sorted(service.nodes("Ready").values()) == ["idle", "idle"])
    assert service.starts("Ready") == [("completed", "success", 0)] * 2, service.starts("Ready")
    before = "/bin/sh -c 'cat $AZ_BATCH_NODE_STARTUP_DIR/wd/ready > prepared'"
    service.job("chores", "Ready", before=before, after=f"/bin/sh -c 'hostname >> {work}/released'")
    refused(service, "TaskIdSameAsJobPreparationTask", lambda: service.task("chores", "JobPreparation", "true"))
    line = "/bin/sh -c 'grep startup $AZ_BATCH_JOB_PREP_WORKING_DIR/prepared && echo $AZ_BATCH_JOB_PREP_DIR'"
    service.tasks("chores", [(f"t{i}", line) for i in range(4)])
    until("all have succeeded", lambda: service.counts("chores") == (0, 0, 4, 4, 0))
    where = service.read("chores", "t0", "stdout.txt").decode().split()[1]
    assert where.endswith("/workitems/chores/job-1/jobpreparation"), where
    assert service.prepared("chores")[0][1:] == ("completed", "success", None), service.prepared("chores")
    service.terminate("chores", "enough")
    until("the job has completed", lambda: service.job_state("chores") == ("completed", "enough"))
    rows = service.prepared("chores")
    with open(f"{work}/released") as file:
        assert sorted(file.read().split()) == [row[0] for row in rows]
    assert all(row[1:] == ("completed", "success", "success") for row in rows), rows
    refused(service, "JobPreparationTaskNotSpecified", lambda: service.prepared("many"))
    service.delete_pool("Ready")
    until("the pool is gone", lambda: service.pools() == [])


def scavenges(service, work):
    """A pool has idle nodes until another one is to have them for itself."""
    nodes = 2
    service.pool("Idle", "main", 0, 1, False, low=nodes)
    until("it has all nodes", lambda: service.low("Idle") == (nodes, 0, [False] * nodes))
    service.job("idle", "Idle")
    service.tasks("idle", [(f"t{i}", f"/bin/sh -c 'echo $AZ_BATCH_NODE_IS_DEDICATED > {work}/dedicated; sleep 1000'") for i in range(nodes)])
    until("all tasks run", lambda: service.counts("idle")[1] == nodes)
    said = lambda: os.path.exists(f"{work}/dedicated") and open(f"{work}/dedicated").read()
    assert until("a task has said whose its node is", said) == "false\n", said()
    service.pool("Own", "main", 1, 1, False)
    until("it has its node", lambda: service.allocation("Own")[:2] == ("steady", 1))
    assert service.low("Idle")[:2] == (nodes, 1), service.low("Idle")
    assert service.counts("idle")[:2] == (1, nodes - 1), service.counts("idle")
    infos = [service.get("idle", f"t{i}").execution_info for i in range(nodes)]
    assert all((info.retry_count, info.requeue_count) == (0, 0) for info in infos), infos
    service.delete_pool("Own")
    until("the node is back", lambda: service.low("Idle")[:2] == (nodes, 0))
    until("all tasks run again", lambda: service.counts("idle")[1] == nodes)
    service.delete_job("idle")
    service.delete_pool("Idle")
    until("the pool is gone", lambda: service.pools() == [])


def gang(service, work):
    service.delete_pool("Pool")
    until("the pool is gone", lambda: service.pools() == [])
    own(service)
    chores(service, work)
    scavenges(service, work)
    service.pool("Pool", "main", 2, 1, True)
    until("the pool is steady", lambda: service.allocation("pool")[:2] == ("steady", 2))
    service.job("gang", "Pool")
    # As users of the service start MPI programs: over the hosts that it names, and with what the coordination command left there.
    listed = f"mpirun -np 2 --host $AZ_BATCH_HOST_LIST --map-by ppr:1:node cat $AZ_BATCH_TASK_SHARED_DIR/here > {work}/hosts"
    command = f"/bin/sh -c 'mpirun hostname > {work}/gang && {listed}'"
    service.task("gang", "mpi", command, instances=2)
    until("it has ended", lambda: service.counts("gang")[2] == 1)
    mpi = service.get("gang", "mpi")
    assert mpi.execution_info.exit_code == 0, mpi.execution_info
    with open(f"{work}/gang") as file:
        hosts = file.read().split()
    assert len(set(hosts)) == 2 and len(hosts) == 8, hosts
    with open(f"{work}/hosts") as file:
        assert set(file.read().split()) == set(hosts)
    subtasks = service.subtasks("gang", "mpi")
    assert [(part.id, part.state.lower()) for part in subtasks] == [(1, "completed")], subtasks
    assert {subtasks[0].node_info.node_id, mpi.node_info.node_id} == set(hosts), subtasks
    service.delete_job("gang")


def address():
    return sys.argv[1], sys.argv[2], open(sys.argv[3]).read().strip(), sys.argv[4]
