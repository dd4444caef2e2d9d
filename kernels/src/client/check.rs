//! Whether a device computes what it should, before anything is entrusted to it.

use cubecl::prelude::Runtime;

use super::Client;
use crate::cube;

/// Selects the best of a few scores. CubeCL finds out only here whether it can compile for the device, and where it
/// cannot it may not say so, but leave the output as it was.
pub(super) fn computes<R: Runtime>(client: &Client<R>) -> Result<(), String> {
    let limits = client.limits();
    let needs = [
        ("units in a cube", u64::from(limits.units), cube::MOST_UNITS as u64),
        ("bytes of shared memory", limits.shared as u64, cube::MOST_SHARED as u64),
        ("buffers in a kernel", u64::from(limits.buffers), cube::MOST_BUFFERS as u64),
    ];
    for (what, has, need) in needs {
        if has < need {
            return Err(format!("the kernels need {need} {what}, it has {has}"));
        }
    }
    let best = client
        .upload("scores", &[1.0f32, 4.0, -2.0, 4.0, 3.0])
        .and_then(|scores| cube::top(client, &scores, 5, 3))
        .and_then(|top| top.read(client));
    match best {
        Ok(best) if best == [[(1, 4.0), (3, 4.0), (4, 3.0)]] => Ok(()),
        Ok(best) => Err(format!("the best three of 1, 4, -2, 4 and 3 came out as {best:?}")),
        Err(error) => Err(error.to_string()),
    }
}
