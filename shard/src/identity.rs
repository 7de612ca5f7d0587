//! Who a node is: an id kept in the data directory, one file a port, or a random one.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use larder_runtime::entropy;
use larder_wire::NodeId;

use crate::config::StartError;

/// The id of the node at `port`. Without a directory it lives as long as the process.
pub(crate) fn node_id(data_dir: Option<&Path>, port: u16) -> Result<NodeId, StartError> {
    let Some(dir) = data_dir else {
        return entropy::node_id().map_err(StartError::Thread);
    };
    let path = dir.join(format!("node-{port}.id"));
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|cause| StartError::BadId { path, cause }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(dir, &path).map_err(|error| StartError::DataDir {
                path: PathBuf::from(dir),
                error,
            })
        }
        Err(error) => Err(StartError::DataDir {
            path: PathBuf::from(dir),
            error,
        }),
    }
}

/// Written beside its name and then moved there: a crash leaves no half an id.
fn make(dir: &Path, path: &Path) -> io::Result<NodeId> {
    fs::create_dir_all(dir)?;
    let id = entropy::node_id()?;
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("{id}\n"))?;
    fs::rename(&draft, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id_and_two_nodes_differ() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("data");
        let first = node_id(Some(&nested), 7001).unwrap();
        assert_eq!(node_id(Some(&nested), 7001).unwrap(), first);
        assert_ne!(node_id(Some(&nested), 7002).unwrap(), first);
        assert_ne!(node_id(None, 7001).unwrap(), node_id(None, 7001).unwrap());
    }

    #[test]
    fn a_file_that_holds_no_id_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-7001.id");
        fs::write(&path, "nonsense").unwrap();
        let error = node_id(Some(dir.path()), 7001).unwrap_err().to_string();
        assert!(
            error.contains("node-7001.id") && error.contains("nonsense"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "nonsense");
    }
}
