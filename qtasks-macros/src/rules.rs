//! The rules that the parts of a task obey together.

use quote::ToTokens as _;
use syn::ext::IdentExt as _;

use crate::{
    Errors,
    args::Duplicate,
    task::{Param, Role, Task},
    types::compact,
};

impl Task {
    /// Adds what is wrong with the task as a whole to `errors`.
    pub(crate) fn check(&self, errors: &mut Errors) {
        self.check_co(errors);
        self.check_context(errors);
        self.check_collection(errors);
        self.check_options(errors);
        self.check_schedule(errors);
        self.check_unique(errors);
        self.check_shadows(errors);
    }

    fn check_co(&self, errors: &mut Errors) {
        let mut cos = self.params.iter().filter(|param| param.is_co());
        if let Some(first) = cos.next()
            && !self.awaits
        {
            errors.at(&first.ty, "a `fn` task cannot take a `Co`: make it `async fn`, or use `yield_!`");
        }
        for other in cos {
            errors.at(&other.ty, "a task takes one `Co`: pass `&co` on to whatever needs it");
        }
    }

    fn check_context(&self, errors: &mut Errors) {
        for (at, param) in self.params.iter().enumerate() {
            match param.role {
                Role::Context if !self.echoes() && !self.options.is_meant("echo") => {
                    errors.at(&param.ty, "a `TaskContext` parameter needs `#[qtask(echo = true)]`: add `echo = true`");
                }
                Role::Context if at > 0 => {
                    errors
                        .at(&param.ty, "`echo = true` passes one `TaskContext`, as the first parameter: move it there");
                }
                _ => {}
            }
        }
    }

    /// Without this, the traits would give an error for each use of the collection.
    fn check_collection(&self, errors: &mut Errors) {
        if let Some(output) = self.no_collection() {
            let collection = format!("Vec<{}>", compact(&output.to_token_stream()));
            errors.at(
                output,
                format!(
                    "a task that yields returns what its values are collected into: `{collection}`, say, or `Count`"
                ),
            );
        }
    }

    fn check_options(&self, errors: &mut Errors) {
        let options = &self.options;
        if !self.generates() {
            let given = [
                options.generate_handler.as_ref().map(|given| &given.key),
                options.on_error.as_ref().map(|given| &given.key),
                options.checkpoint.as_ref().map(|given| &given.key),
                options.resume.as_ref().map(|given| &given.key),
            ];
            for key in given.into_iter().flatten() {
                errors.at(
                    key,
                    format!(
                        "`{key}` is for a task that yields: say `yield_!(value);` in the body, or take `co: Co<Y, R>`"
                    ),
                );
            }
        } else if let Some(on_error) = &options.on_error
            && options.skips()
            && options.generate_handler.is_none()
            && !options.is_meant("generate_handler")
        {
            errors.at(
                &on_error.key,
                "`on_error = \"skip\"` is about the handler's errors: add `generate_handler = path`, or leave it out",
            );
        }
        if let Some(resume) = &options.resume
            && options.goes_on_from_cursor()
            && options.skips()
        {
            errors.at(
                &resume.key,
                "`resume = \"cursor\"` goes on from the last reply, and a value that is skipped has none: leave out one of \
                 `resume` and `on_error`",
            );
        }
        if let Some(retry_on) = &options.retry_on
            && !self.fails()
        {
            errors.at(
                &retry_on.key,
                "`retry_on` judges the error of the body: let the task return a `Result<T, E>`, or leave it out",
            );
        }
    }

    fn check_schedule(&self, errors: &mut Errors) {
        let options = &self.options;
        if options.schedule.is_some() {
            for param in self.arguments() {
                errors.at(
                    &param.ident,
                    "a task with a `schedule` is called without arguments: leave the parameter out, or give a call with its \
                     arguments a schedule by `QueueTasks::builder().schedule(..)`",
                );
            }
            return;
        }
        if options.is_meant("schedule") {
            return;
        }
        let given = [
            options.timezone.as_ref().map(|given| &given.key),
            options.missed.as_ref().map(|given| &given.key),
            options.overlap.as_ref().map(|given| &given.key),
            options.jitter.as_ref().map(|given| &given.key),
        ];
        for key in given.into_iter().flatten() {
            errors.at(
                key,
                format!("`{key}` is for a task with a schedule: add `schedule = \"0 9 * * MON-FRI\"`, or leave it out"),
            );
        }
    }

    fn check_unique(&self, errors: &mut Errors) {
        let options = &self.options;
        let given = [
            options.unique_for.as_ref().map(|given| &given.key),
            options.on_duplicate.as_ref().map(|given| &given.key),
            options.debounce.as_ref().map(|given| &given.key),
        ];
        let Some(unique) = &options.unique else {
            for key in given.into_iter().flatten().filter(|_| !options.is_meant("unique")) {
                errors.at(
                    key,
                    format!("`{key}` is for a task that is `unique`: add `unique = \"args\"`, or leave it out"),
                );
            }
            return;
        };
        if let (Some(debounce), Some(on_duplicate)) = (&options.debounce, &options.on_duplicate)
            && on_duplicate.value != Duplicate::Replace
        {
            errors.at(
                &debounce.key,
                "a call of a task with `debounce` replaces the job that waits: leave `on_duplicate` out",
            );
        }
        for name in self.unique_by().into_iter().flatten() {
            let param = self.params.iter().find(|param| param.ident.unraw() == name);
            match param {
                Some(Param { role: Role::Argument, attrs, .. }) if attrs.is_stored_otherwise() => errors.at(
                    unique,
                    format!("`{name}` is not stored under its own name: give the calls a `unique_key`, or say `unique = \"args\"`"),
                ),
                Some(Param { role: Role::Argument, .. }) => {}
                Some(_) => errors.at(unique, format!("`{name}` is no argument of a call, which a job could be told by")),
                None => errors.at(unique, format!("`{name}` is no parameter of `{}`{}", self.ident, self.known_params())),
            }
        }
    }

    fn known_params(&self) -> String {
        let names: Vec<_> = self.arguments().map(|param| format!("`{}`", param.ident.unraw())).collect();
        if names.is_empty() {
            ": it has none; say `unique = \"args\"`".to_owned()
        } else {
            format!(": they are {}, or `\"args\"` for all", names.join(", "))
        }
    }

    /// The expansion calls the functions that options name within the body's own function, where a parameter of the same
    /// name would hide them.
    fn check_shadows(&self, errors: &mut Errors) {
        let given = [("generate_handler", &self.options.generate_handler), ("retry_on", &self.options.retry_on)];
        for (key, given) in given {
            let Some(function) = given.as_ref().and_then(|given| given.value.path.get_ident()) else { continue };
            for param in self.params.iter().filter(|param| param.ident == *function) {
                errors.at(
                    &param.ident,
                    format!(
                        "the parameter `{function}` hides the function of `{key} = {function}`: rename the parameter"
                    ),
                );
            }
        }
    }
}
