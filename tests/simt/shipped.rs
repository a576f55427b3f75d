//! Every kernel that ships, on machines that are not here.

use tilewright::ops::{CheckOptions, Checker, Outcome, registry};

fn clean(subgroups: Vec<Option<u32>>) {
    let options = CheckOptions { subgroups, ..CheckOptions::default() };
    let checker = Checker::default();
    let (mut ran, mut wrong) = (0, Vec::new());
    let start = std::time::Instant::now();
    for entry in registry() {
        let begun = std::time::Instant::now();
        for one in checker.check_entry(entry, &options, |_| true) {
            ran += usize::from(matches!(one.outcome, Outcome::Passed { .. }));
            if !one.is_clean() {
                let found: Vec<_> =
                    one.report.findings.iter().map(|f| format!("\n    {f}")).collect();
                wrong.push(format!(
                    "{}/{} {} on {}: {:?}{}",
                    one.op, one.kernel, one.case, one.machine, one.outcome, found.concat()
                ));
            }
        }
        println!("{}: {:.1} s", entry.name, begun.elapsed().as_secs_f64());
    }
    println!("{:?}: {ran} cases in {:.1} s", options.subgroups, start.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{} are not clean:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran > 300, "only {ran} cases ran");
}

#[test]
fn clean_without_subgroups() {
    clean(vec![None]);
}

#[test]
fn clean_with_subgroups_of_4() {
    clean(vec![Some(4)]);
}

#[test]
fn clean_with_subgroups_of_8() {
    clean(vec![Some(8)]);
}

#[test]
fn clean_with_subgroups_of_16() {
    clean(vec![Some(16)]);
}

#[test]
fn clean_with_subgroups_of_32() {
    clean(vec![Some(32)]);
}

#[test]
fn clean_with_subgroups_of_64() {
    clean(vec![Some(64)]);
}
