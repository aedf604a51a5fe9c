//! Why a program cannot be run, as far as files tell. For words only: whether it can is seen when it is tried.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use super::ChildCommand;

/// Of the folder that it starts in, and of a program that is named with its path.
pub(super) fn of_files(command: &ChildCommand) -> Option<String> {
    if command.working_dir.as_ref().is_some_and(|folder| !folder.is_dir()) {
        return Some("workingDir is not a folder".to_owned());
    }
    let program = command.command.argv().first().filter(|program| program.contains('/'))?;
    let folder = command.working_dir.as_deref().unwrap_or(Path::new(""));
    refusal(&folder.join(program)).map(|error| error.to_string())
}

/// The same, and of a program that is looked for in `PATH`.
pub(super) fn of(command: &ChildCommand) -> Option<String> {
    of_files(command).or_else(|| {
        let program = command.command.argv().first().filter(|program| !program.contains('/'))?;
        let own = command.env.get("PATH").map(|path| OsString::from(path.expose()));
        let path = own.or_else(|| std::env::var_os("PATH"))?;
        let mut folders = std::env::split_paths(&path);
        let is_there = folders.any(|folder| refusal(&folder.join(program)).is_none());
        (!is_there).then(|| "there is no such program in PATH".to_owned())
    })
}

fn refusal(path: &Path) -> Option<io::Error> {
    match path.metadata() {
        Ok(meta) if meta.is_file() => access(path, Access::EXEC_OK).err().map(io::Error::from),
        Ok(_) => Some(io::Error::from(io::ErrorKind::IsADirectory)),
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use rf_core::config::Secret;

    use super::*;
    use crate::child::CommandLine;

    #[test]
    fn what_keeps_a_program_from_running_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("run");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::write(folder.path().join("text"), "").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let check = |program: &str, working_dir: Option<PathBuf>, path: &Path, expected: &str| {
            let path = Secret::new(path.display().to_string());
            let command = ChildCommand {
                command: CommandLine::program(program.to_owned()),
                working_dir,
                env: BTreeMap::from([("PATH".to_owned(), path)]),
            };
            let told = of(&command).unwrap_or_default();
            assert!(told.contains(expected), "{program}: {told}");
            assert_eq!(told.is_empty(), expected.is_empty(), "{program}: {told}");
        };
        let (here, nowhere) = (folder.path(), Path::new("/nowhere"));
        check(program.to_str().unwrap(), None, nowhere, "");
        check("./run", Some(here.to_owned()), nowhere, "");
        check("run", None, here, "");
        check("run", None, nowhere, "no such program in PATH");
        check("text", None, here, "no such program in PATH");
        check("./none", Some(here.to_owned()), here, "No such file or directory");
        check("./text", Some(here.to_owned()), here, "Permission denied");
        check("/", None, here, "is a directory");
        check("run", Some(program.clone()), here, "workingDir is not a folder");
    }
}
