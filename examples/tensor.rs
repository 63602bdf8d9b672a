//! A tensor and its gradient, on the device that `auto` picks.
//!
//! ```text
//! cargo run --release --example tensor
//! ```

use engram::device::{Options, Selection};
use engram::{Result, Tensor};

fn main() -> Result<()> {
    // The best hardware GPU, and the CPU where there is none. The flags are for bounds checks and tracing.
    let (device, _) = Selection::Auto.open(Options::default())?;
    println!("device: {}\n", device.describe());

    // y = Σ x², a number. Ops run at once; each remembers its inputs because x wants a gradient.
    let x = Tensor::from_f32(&device, [3], &[1.0, -2.0, 3.0])?.with_gradient();
    let y = x.mul(&x)?.sum()?;
    println!("y = Σ x² = {}", y.item()?);

    // Backward walks what was remembered, newest first, and returns the gradients: they are values, not fields of x.
    println!("what was remembered:\n{}", y.graph());
    let gradients = y.backward()?;
    let dy_dx = gradients.get(&x).expect("y depends on x");
    println!("dy/dx = 2x = {:?}\n", dy_dx.to_vec()?);

    // The same, in a loop: a line through four points on t = 2x − 1, by gradient descent.
    let x = Tensor::from_f32(&device, [4, 1], &[-1.0, 0.0, 1.0, 2.0])?;
    let t = Tensor::from_f32(&device, [4, 1], &[-3.0, -1.0, 1.0, 3.0])?;
    let mut w = Tensor::from_f32(&device, [1, 1], &[0.0])?.with_gradient();
    let mut b = Tensor::from_f32(&device, [1], &[0.0])?.with_gradient();
    for step in 0..=60 {
        let error = x.linear(&w, Some(&b))?.sub(&t)?;
        let loss = error.mul(&error)?.mean()?;
        if step % 15 == 0 {
            // Reading a number waits for the device: rarely, please.
            println!("step {step:>2}: loss {:.6}, t = {:.3} x + {:.3}", loss.item()?, w.item()?, b.item()?);
        }
        let gradients = loss.backward()?;
        // One step downhill. The new values are fresh leaves, so the history of a step ends with the step.
        for parameter in [&mut w, &mut b] {
            let slope = Tensor::constant(gradients.get(parameter).expect("the loss depends on it").clone());
            *parameter = parameter.detach().sub(&slope.scale(0.1)?)?.with_gradient();
        }
    }
    let (w, b) = (w.item()?, b.item()?);
    assert!((w - 2.0).abs() < 1e-3 && (b + 1.0).abs() < 1e-3, "the line was not found: {w}, {b}");
    Ok(())
}
