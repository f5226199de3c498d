//! Where docker and podman keep credentials (reference 8.8).

use std::{ffi::OsString, path::PathBuf};

use registry::Source;

/// In the order to look, from what `variable` says of the environment.
pub(super) fn sources(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Vec<Source> {
    const TEXT: &str = "DOCKER_AUTH_CONFIG";
    let text = variable(TEXT).map(|text| Source::Text { name: TEXT, text: text.to_string_lossy().into_owned().into() });
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home?.join(".docker")));
    let docker = folder.map(|folder| Source::Docker(folder.join("config.json")));
    let podman = variable("REGISTRY_AUTH_FILE").map(|file| Source::Podman(file.into()));
    [text, docker, podman].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_the_places_and_home_is_dockers_default() {
        let seen = |variables: &[(&str, &str)], home: Option<&str>| -> Vec<String> {
            let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            sources(value, home.map(PathBuf::from)).iter().map(|source| format!("{source:?}")).collect()
        };
        assert_eq!(seen(&[], None), Vec::<String>::new());
        assert_eq!(seen(&[], Some("/root")), [r#"Docker("/root/.docker/config.json")"#]);
        let all = [("REGISTRY_AUTH_FILE", "/a.json"), ("DOCKER_CONFIG", "/d"), ("DOCKER_AUTH_CONFIG", "{}")];
        assert_eq!(
            seen(&all, Some("/root")),
            [r#"Text { name: "DOCKER_AUTH_CONFIG", text: REDACTED }"#, r#"Docker("/d/config.json")"#, r#"Podman("/a.json")"#]
        );
    }
}
