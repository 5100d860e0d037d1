//! The unit of `systemd/` under a real systemd: `tests/systemd/unit.sh` inside
//! `tests/systemd/systemd-box`, with the real binary. Each fact is an `ok` line of that script.
//!
//! Where there is no root, or there are no namespaces, this fails and says so: a unit that nobody
//! tried is no unit.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Facts below which the script can't have run to its end.
const FACTS: usize = 39;

#[test]
fn the_unit_starts_reloads_restarts_and_stops_under_a_real_systemd() {
    require_a_machine_that_can();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The service's own user runs the binary from here.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("the directory is ours");
    for (from, name) in [
        (Path::new(env!("CARGO_BIN_EXE_keygate")), "keygate"),
        (&root.join("systemd/keygate.service"), "keygate.service"),
        (&root.join("systemd/keygate.sysusers"), "keygate.sysusers"),
        (&root.join("systemd/keygate.tmpfiles"), "keygate.tmpfiles"),
        (&root.join("tests/systemd/unit.sh"), "unit.sh"),
    ] {
        let copied = std::fs::copy(from, dir.path().join(name));
        copied.unwrap_or_else(|e| panic!("copying {}: {e}", from.display()));
    }
    let output = Command::new(root.join("tests/systemd/systemd-box"))
        .args(["--timeout", "240"])
        .arg(dir.path())
        .arg("/mnt/box/unit.sh")
        .output()
        .expect("the box can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}\n{problems}", output.status);
    let facts = said.lines().filter(|line| line.starts_with("ok - ")).count();
    assert!(facts >= FACTS, "only {facts} facts were established:\n{said}");
    assert!(said.trim_end().ends_with("ok - done"), "the script did not reach its end:\n{said}");
}

/// Says what is missing in one sentence, rather than in the middle of a box.
fn require_a_machine_that_can() {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let namespaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--net", "true"];
    let systemd = Path::new("/usr/lib/systemd/systemd").exists();
    assert!(systemd, "systemd is not installed here: apt-get install systemd");
    assert!(works("ip", &["-V"]), "ip is not installed here: apt-get install iproute2");
    assert!(works("curl", &["--version"]), "curl is not installed here: apt-get install curl");
    assert!(
        works("unshare", &namespaces),
        "this test starts a systemd of its own: run it as root, where `unshare {}` works \
         (in a container: with --privileged)",
        namespaces.join(" ")
    );
}
