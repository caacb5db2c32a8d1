//! Where axes have ticks.

/// Steps that people count in, within a decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// Ticks 0, step, 2 step .. up to the first one at or above `max`; at most about `count` of them.
pub(super) fn linear(max: f64, count: usize) -> Vec<f64> {
    let rough = max.max(f64::MIN_POSITIVE) / count.max(1) as f64;
    let decade = 10f64.powf(rough.log10().floor());
    let step = STEPS
        .into_iter()
        .chain([10.0])
        .map(|step| step * decade)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(decade * 10.0);
    let mut ticks = vec![0.0];
    // Multiplied, not added up: 0.1 + 0.2 is not a tick people know.
    for index in 1_u32.. {
        let tick = f64::from(index) * step;
        ticks.push(tick);
        if tick >= max * 0.999 || ticks.len() > count * 2 {
            break;
        }
    }
    ticks
}

/// Ticks at 1, 2, 5, 10, 20 .. from the last one at or below `min` to the first at or above `max`.
/// Both bounds are above 0.
pub(super) fn logarithmic(min: f64, max: f64) -> Vec<f64> {
    let first = min.log10().floor();
    let mut ticks: Vec<f64> = Vec::new();
    for decade in 0_i32.. {
        for step in STEPS {
            let tick = step * 10f64.powf(first + f64::from(decade));
            if tick <= min {
                ticks.clear();
            }
            ticks.push(tick);
            if tick >= max && ticks.len() > 1 {
                return ticks;
            }
        }
    }
    ticks
}

/// Whether a tick is a power of ten: those keep their labels when there are too many.
pub(super) fn is_power_of_ten(tick: f64) -> bool {
    (tick.log10() - tick.log10().round()).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_cover_the_range_in_round_steps() {
        assert_eq!(linear(1.0, 4), [0.0, 0.5, 1.0]);
        assert_eq!(linear(97.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear(2812.0, 6), [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0]);
        assert!(linear(0.0, 5).len() >= 2);
    }

    #[test]
    fn logarithmic_ticks_enclose_the_range() {
        assert_eq!(logarithmic(3.0, 40.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(logarithmic(1.0, 1.0), [1.0, 2.0]);
        let many = logarithmic(3.0, 4e5);
        assert_eq!(many.first(), Some(&2.0));
        assert_eq!(many.last(), Some(&5e5));
        let powers = many.into_iter().filter(|tick| is_power_of_ten(*tick));
        assert_eq!(powers.collect::<Vec<f64>>(), [10.0, 100.0, 1e3, 1e4, 1e5]);
    }
}
