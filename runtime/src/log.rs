//! Logs: text on standard error, filtered by `--log` or `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Call once, early. `asked` (a level or a filter such as `info,larder_proxy=debug`) wins over `RUST_LOG`,
/// which wins over `default`. Fails with a line for the person who wrote the filter.
pub fn init(asked: Option<&str>, default: &str) -> Result<(), String> {
    let from_environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let filter = asked.or(from_environment.as_deref()).unwrap_or(default);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("'{filter}' is no log filter: {error} (write for example --log info)")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| format!("logs were started twice: {error}"))
}
