//! Where the time of a step goes, node by node.

use std::sync::PoisonError;
use std::time::Instant;

use super::exec::Session;
use crate::error::Result;
use crate::gpu::{Clock, Timestamps};
use crate::tensor::{Sizes, Tensor};

/// Device time of one node.
#[derive(Clone, Debug)]
pub struct NodeTime {
    /// The node's layer.
    pub layer: String,
    /// Its op.
    pub op: &'static str,
    /// The kernel that ran.
    pub kernel: &'static str,
    /// Nanoseconds.
    pub ns: f64,
}

impl Session {
    /// One step with the time of every node, in order, and the clock it was taken from.
    pub fn profile(&self, inputs: &[(&str, &Tensor)]) -> Result<(Vec<NodeTime>, Clock)> {
        let sizes = self.graph.bind_sizes(inputs, Sizes::default())?;
        self.profile_step(inputs, &sizes)
    }

    /// The same for a step of these sizes; inputs that are not given keep what they had.
    pub fn profile_step(
        &self,
        inputs: &[(&str, &Tensor)],
        sizes: &Sizes,
    ) -> Result<(Vec<NodeTime>, Clock)> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_inputs(inputs, sizes)?;
        let count = self.steps.len() as u32 + 1;
        match Timestamps::new(&self.gpu, count)? {
            Some(stamps) => Ok((self.profile_device(sizes, &stamps)?, Clock::Device)),
            None => Ok((self.profile_host(sizes)?, Clock::Host)),
        }
    }

    fn profile_device(&self, sizes: &Sizes, stamps: &Timestamps) -> Result<Vec<NodeTime>> {
        let mut commands = self.gpu.commands("profile");
        {
            let mut pass = commands.pass();
            pass.stamp(stamps, 0);
            self.with_dispatches(sizes, |all| {
                for (i, one) in all.iter().enumerate() {
                    self.replay(&mut pass, std::slice::from_ref(one), i);
                    pass.stamp(stamps, i as u32 + 1);
                }
            })?;
        }
        commands.resolve(stamps);
        self.gpu.submit(commands)?;
        let times = stamps.read(&self.gpu)?;
        self.name_times(sizes, times.windows(2).map(|w| w[1] - w[0]).collect())
    }

    fn profile_host(&self, sizes: &Sizes) -> Result<Vec<NodeTime>> {
        let times = self.with_dispatches(sizes, |all| -> Result<Vec<f64>> {
            let time = |(i, one)| {
                let start = Instant::now();
                let mut commands = self.gpu.commands("profile");
                self.replay(&mut commands.pass(), std::slice::from_ref(one), i);
                self.gpu.submit(commands)?;
                self.gpu.finish()?;
                Ok(start.elapsed().as_nanos() as f64)
            };
            all.iter().enumerate().map(time).collect()
        })??;
        self.name_times(sizes, times)
    }

    fn name_times(&self, sizes: &Sizes, times: Vec<f64>) -> Result<Vec<NodeTime>> {
        self.with_dispatches(sizes, |all| {
            let rows = self.graph.nodes.iter().zip(&self.steps).zip(all).zip(times);
            rows.map(|(((node, step), work), ns)| NodeTime {
                layer: node.layer.clone(),
                op: node.op.name(),
                kernel: step.candidates[work.candidate].kernel().name(),
                ns,
            })
            .collect()
        })
    }
}
