//! Who leads on PostgreSQL, what the others may not do, and what connections that break cost.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::database::{lead, server, try_to_lead};
use common::{add_up, configured, submitted};
use muster_core::ids::Timestamp;
use muster_store::{Candidacy, Candidate, Keyring, Lease, Server, ServerOptions, Store, StoreError};
use muster_store::{check, export};
use muster_test_postgres::{Cut, PostgresServer};

fn is_deposed<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Deposed { .. }))
}

/// The lead of another controller, once it can be had.
fn take_over(server: &Server) -> Lease {
    let mut candidate = Candidate::new(server, "second".to_owned(), "localhost:2".to_owned());
    loop {
        match candidate.stand().unwrap() {
            Candidacy::Leads(lease) => return lease,
            Candidacy::Follows(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn expire(postgres: &PostgresServer, database: &str) {
    postgres.connect(database).unwrap().execute("UPDATE leader SET expires_at = 'epoch'", &[]).unwrap();
}

#[test]
fn one_leads_and_the_others_are_told_who() {
    let postgres = PostgresServer::start().unwrap();
    let server = server(&postgres.database("one").unwrap());
    // Both find a new database, and both make its tables.
    let first = std::thread::scope(|scope| {
        let stood = [(); 2].map(|()| scope.spawn(|| try_to_lead(&server).unwrap()));
        let stood = stood.map(|thread| thread.join().unwrap());
        let leads: Vec<Lease> = stood
            .into_iter()
            .filter_map(|candidacy| match candidacy {
                Candidacy::Leads(lease) => Some(lease),
                Candidacy::Follows(_) => None,
            })
            .collect();
        assert_eq!(leads.len(), 1);
        leads.into_iter().next().unwrap()
    });
    assert_eq!((first.term(), first.is_valid()), (1, true));
    match try_to_lead(&server).unwrap() {
        Candidacy::Follows(leader) => {
            assert_eq!((leader.term, &*leader.holder, &*leader.address), (1, "test", "localhost:1"));
        }
        Candidacy::Leads(_) => panic!("there is a leader"),
    }
    first.release();
    assert!(!first.is_valid());
    let second = lead(&server);
    assert_eq!(second.term(), 2, "nobody waits for the end of a lease that was given back");
    drop(second);
}

#[test]
fn nothing_is_stored_under_a_term_that_is_over() {
    let postgres = PostgresServer::start().unwrap();
    let server = server(&postgres.database("fence").unwrap());
    let first = lead(&server);
    let (mut store, _) = Store::lead(&first).unwrap();
    store.append(&[configured(), submitted(1)], &[]).unwrap();
    let mut writer = store.snapshot_writer().unwrap();
    let (state, seq) = writer.state_on_disk().unwrap();
    let keyring = Keyring::new(&first);
    keyring.put("ca", "certificate", "key").unwrap();
    expire(&postgres, "fence");
    let second = take_over(&server);
    // The first one does not know yet: its lease is valid by its own clock, and only the database can stop it.
    assert!(first.is_valid() || second.is_valid());
    assert!(is_deposed(store.append(&[submitted(2)], &[])));
    assert!(is_deposed(writer.write(&state, seq, Timestamp(1))));
    assert!(is_deposed(keyring.put("node", "certificate", "key")));
    assert!(!first.is_valid() && second.is_valid());
    let (mut store, recovered) = Store::lead(&second).unwrap();
    assert_eq!((recovered.state, recovered.last_seq), (add_up(&[configured(), submitted(1)]), 2));
    store.append(&[submitted(2)], &[]).unwrap();
    let keyring = Keyring::new(&second);
    let kept = [("ca".to_owned(), ("certificate".to_owned(), "key".to_owned()))];
    assert_eq!(keyring.all().unwrap(), kept.into());
}

/// A leader that is frozen in the middle of a transaction must not keep the others from taking over.
#[test]
fn a_transaction_that_was_left_open_does_not_keep_the_lead() {
    let postgres = PostgresServer::start().unwrap();
    let server = server(&postgres.database("open").unwrap());
    let first = lead(&server);
    let mut frozen = postgres.connect("open").unwrap();
    let name = format!("SET application_name = 'musterd, leading in term {}'", first.term());
    frozen.batch_execute(&format!("{name}; BEGIN; UPDATE leader SET acknowledged = 7")).unwrap();
    assert_eq!(take_over(&server).term(), 2);
    assert!(frozen.batch_execute("COMMIT").is_err());
    let row = postgres.connect("open").unwrap().query_one("SELECT acknowledged FROM leader", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[test]
fn a_leader_that_is_cut_off_knows_by_its_own_clock_that_its_lease_is_over() {
    let postgres = PostgresServer::start().unwrap();
    let direct = server(&postgres.database("cut").unwrap());
    let way = Cut::before(&postgres).unwrap();
    let first = lead(&server(&way.url("cut")));
    let (mut store, _) = Store::lead(&first).unwrap();
    store.append(&[configured()], &[]).unwrap();
    way.close();
    // It hangs until the way is open again, and finds then that it was replaced.
    let hangs = std::thread::spawn(move || store.append(&[submitted(1)], &[]));
    let second = take_over(&direct);
    assert!(!first.is_valid(), "it has known before the other one could take over");
    way.open();
    assert!(is_deposed(hangs.join().unwrap()));
    let (_, recovered) = Store::lead(&second).unwrap();
    assert_eq!(recovered.last_seq, 1);
}

#[test]
fn a_connection_that_breaks_loses_nothing_and_stores_nothing_twice() {
    let postgres = PostgresServer::start().unwrap();
    let lease = lead(&server(&postgres.database("broken").unwrap()));
    let (mut store, _) = Store::lead(&lease).unwrap();
    let mut stored = vec![configured()];
    store.append(&stored, &[]).unwrap();
    let mut admin = postgres.connect("broken").unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name LIKE 'musterd, leading%'";
    let (ended, wanted) = (AtomicI64::new(0), 25);
    std::thread::scope(|scope| {
        // Ended at any place of a transaction, and at any time of the commit.
        scope.spawn(|| {
            while ended.load(Ordering::Relaxed) < wanted {
                std::thread::sleep(Duration::from_millis(61));
                ended.fetch_add(admin.query_one(end, &[]).unwrap().get(0), Ordering::Relaxed);
            }
        });
        let mut job = 0;
        while ended.load(Ordering::Relaxed) < wanted {
            job += 1;
            let record = submitted(job);
            store.append(std::slice::from_ref(&record), &[]).unwrap();
            stored.push(record);
        }
    });
    let last_seq = stored.len() as u64;
    assert_eq!(store.last_seq(), last_seq);
    lease.release();
    let (_, recovered) = Store::lead(&lead(&server(&postgres.url("broken")))).unwrap();
    assert_eq!((recovered.last_seq, recovered.state), (last_seq, add_up(&stored)));
}

#[test]
fn a_server_that_crashes_loses_nothing_that_was_acknowledged() {
    let mut postgres = PostgresServer::start().unwrap();
    let server = server(&postgres.database("crash").unwrap());
    let mut stored = vec![configured()];
    for round in 0..4 {
        let lease = take_over(&server);
        let (mut store, recovered) = Store::lead(&lease).unwrap();
        if round > 0 {
            assert_eq!(recovered.state, add_up(&stored));
        } else {
            store.append(&stored, &[]).unwrap();
        }
        for job in 1..=20 {
            let record = submitted(round * 20 + job);
            store.append(std::slice::from_ref(&record), &[]).unwrap();
            stored.push(record);
        }
        store.snapshot(&add_up(&stored), Timestamp(round)).unwrap();
        postgres.kill();
        postgres.run().unwrap();
        // The lease is kept over the crash, if it is short.
        let record = submitted(1000 + round);
        match store.append(std::slice::from_ref(&record), &[]) {
            Ok(()) => stored.push(record),
            Err(error) => assert!(matches!(error, StoreError::Deposed { .. }), "{error}"),
        }
        lease.release();
    }
}

#[test]
fn a_database_is_checked_and_exported() {
    let postgres = PostgresServer::start().unwrap();
    let server = server(&postgres.database("check").unwrap());
    assert!(matches!(check(&server), Err(StoreError::NoDatabase { .. })));
    let lease = lead(&server);
    let (mut store, _) = Store::lead(&lease).unwrap();
    let records = [configured(), submitted(1), submitted(2)];
    store.append(&records[..2], &[]).unwrap();
    store.snapshot(&add_up(&records[..2]), Timestamp(1)).unwrap();
    store.append(&records[2..], &[]).unwrap();
    let report = check(&server).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.acknowledged, report.records, report.state.unwrap().seq), (Some(3), 1, 3));
    let mut text = Vec::new();
    let exported = export(&server, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!((exported.lines, exported.damaged), (4, 0), "{text}");
    assert!(text.contains("\"type\":\"record\"") && !text.contains("secret"));
    let mut admin = postgres.connect("check").unwrap();
    admin.execute("DELETE FROM journal WHERE seq = 3", &[]).unwrap();
    let found = check(&server).unwrap().findings;
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("were acknowledged and are missing"), "{found:?}");
}

#[test]
fn a_database_that_does_not_keep_text_as_utf_8_is_refused() {
    let postgres = PostgresServer::start().unwrap();
    let sql = "CREATE DATABASE other ENCODING 'SQL_ASCII' TEMPLATE template0";
    postgres.connect("postgres").unwrap().batch_execute(sql).unwrap();
    let error = try_to_lead(&server(&postgres.url("other"))).unwrap_err().to_string();
    assert!(error.contains("SQL_ASCII") && error.contains("ENCODING 'UTF8'"), "{error}");
}

#[test]
fn a_password_from_a_private_file_opens_the_way_over_the_network() {
    let postgres = PostgresServer::start().unwrap();
    postgres.database("net").unwrap();
    postgres.connect("net").unwrap().batch_execute("ALTER ROLE muster PASSWORD 'a:b'").unwrap();
    let url = format!("postgresql://muster@127.0.0.1:{}/net", postgres.port());
    let error = try_to_lead(&server(&url)).unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = password_file(folder.path(), "127.0.0.1:*:net:muster:a\\:b");
    let options = ServerOptions { url, password_file: Some(path), ca_file: None };
    let server = Server::new(&options).unwrap();
    let shown = format!("{server} {server:?}");
    assert!(!shown.contains("a:b"), "{shown}");
    assert_eq!(lead(&server).term(), 1);
}

fn password_file(folder: &Path, line: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("passwords");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    path
}

#[test]
fn a_server_is_verified_before_anything_is_said_to_it() {
    let signed = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (right, wrong) = (signed("127.0.0.1"), signed("127.0.0.1"));
    let (cert, key) = (right.cert.pem(), right.signing_key.serialize_pem());
    let postgres = PostgresServer::start_with_tls(&cert, &key).unwrap();
    postgres.database("tls").unwrap();
    postgres.connect("tls").unwrap().batch_execute("ALTER ROLE muster PASSWORD 'a'").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let passwords = password_file(folder.path(), "*:*:tls:muster:a");
    let trusting = |host: &str, pem: &str| {
        let ca_file = folder.path().join("ca.crt");
        std::fs::write(&ca_file, pem).unwrap();
        let url = format!("postgresql://muster@{host}:{}/tls", postgres.port());
        let options = ServerOptions { url, password_file: Some(passwords.clone()), ca_file: Some(ca_file) };
        Server::new(&options).unwrap()
    };
    for other in [trusting("127.0.0.1", &wrong.cert.pem()), trusting("localhost", &cert)] {
        let error = try_to_lead(&other).unwrap_err();
        let mut chain = format!("{error:?}");
        chain.make_ascii_lowercase();
        assert!(matches!(error, StoreError::Database { .. }) && chain.contains("certificate"), "{chain}");
    }
    let lease = lead(&trusting("127.0.0.1", &cert));
    let _open = Store::lead(&lease).unwrap();
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name LIKE 'musterd%'";
    let encrypted: bool = postgres.connect("tls").unwrap().query_one(sql, &[]).unwrap().get(0);
    assert!(encrypted && lease.is_valid());
}
