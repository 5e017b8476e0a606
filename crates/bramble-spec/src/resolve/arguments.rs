//! The section `arguments`.

use std::collections::BTreeMap;

use super::resolver::Resolver;
use crate::arguments::{Arguments, ArgumentsSection, Component};
use crate::de::{Spanned, nearest};
use crate::distribution::{Distribution, Setting};

/// What values may have beside letters and digits: they stand on command lines, in unit files and in lists of arguments.
const SIGNS: &str = "._:/,=@+<>*%~-[]";

impl Resolver<'_> {
    pub(super) fn arguments(&mut self, section: ArgumentsSection, distribution: Option<&Distribution>) -> Arguments {
        let ArgumentsSection { kubelet, kube_apiserver, kube_controller_manager, kube_scheduler, etcd } = section;
        let sections = [kubelet, kube_apiserver, kube_controller_manager, kube_scheduler, etcd];
        let mut all = BTreeMap::new();
        for (component, section) in Component::ALL.into_iter().zip(sections) {
            if let (Some(Distribution::None), Some(first)) = (distribution, section.values().next()) {
                let what = format!("there is no {} without a distribution", component.name());
                self.error(what, first.span, "remove `arguments`, or choose a distribution");
            }
            let mut told = BTreeMap::new();
            for (flag, setting) in section {
                told.extend(self.argument(component, flag, setting));
            }
            if !told.is_empty() {
                all.insert(component, told);
            }
        }
        Arguments(all)
    }

    fn argument(&mut self, component: Component, flag: String, setting: Spanned<Setting>) -> Option<(String, String)> {
        let (program, span) = (component.name(), setting.span);
        if let Some(plain) = flag.strip_prefix("--") {
            self.error(format!("`{flag}` is a flag with its dashes"), span, format!("write `{plain}:`"));
            return None;
        }
        if let Some((_, instead)) = component.ours().iter().find(|(ours, _)| *ours == flag) {
            self.error(format!("`{flag}` of {program} is not for you to set"), span, *instead);
        } else if !component.flags().any(|known| known == flag) {
            let help = match nearest(&flag, component.flags()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("`{program} --help` lists its flags"),
            };
            self.error(format!("{program} has no flag `{flag}`"), span, help);
        }
        let value = match setting.value {
            Setting::One(value) => value,
            Setting::Many(values) => values.join(","),
            Setting::File(_) | Setting::Secret(_) => {
                let what =
                    format!("`{flag}` of {program} cannot come from a file: everybody on a node sees command lines");
                self.error(what, span, "write the value itself");
                return None;
            }
        };
        if !value.chars().all(|letter| letter.is_ascii_alphanumeric() || SIGNS.contains(letter)) {
            let what = format!("`{value}` is not a value that {program} can be given on every distribution");
            self.error(what, span, format!("use letters, digits and {SIGNS}"));
        }
        Some((flag, value))
    }
}
