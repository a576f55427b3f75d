use tilewright::ops::{Checker, Outcome, find, imagined};
#[test]
fn timing() {
    let op = std::env::var("OP").unwrap_or("attention".into());
    let size: u32 = std::env::var("SG").map_or(32, |s| s.parse().unwrap());
    let only = std::env::var("K").unwrap_or_default();
    let entry = find(&op).unwrap();
    let checker = Checker::default();
    let mut all = Vec::new();
    for caps in imagined(Some(size), &[8, 16]) {
        for k in entry.kernels {
            if !k.name().contains(&only) { continue; }
            for case in (entry.cases)() {
                let t = std::time::Instant::now();
                let c = checker.check_case(&caps, &case, *k, false);
                if matches!(c.outcome, Outcome::NotRun(_)) { continue; }
                let t = t.elapsed().as_secs_f64();
                let t2 = std::time::Instant::now();
                if std::env::var("TWICE").is_ok() { checker.check_case(&caps, &case, *k, false); }
                let t2 = t2.elapsed().as_secs_f64();
                all.push((t, t2, format!("{} {} {}", c.kernel, c.machine, c.case)));
                for f in c.report.findings.iter() { println!("{} {}: {f}", c.kernel, c.case); }
                if let Outcome::Failed(w) = c.outcome { println!("{} {} FAILED {w}", c.kernel, c.case); }
            }
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("total {:.2} of {}", all.iter().map(|a| a.0).sum::<f64>(), all.len());
    for a in all.iter().take(25) { println!("{:.3} {:.3} {}", a.0, a.1, a.2); }
}
