//! One function a command, one file a family of commands.
