//! The rules that the parts of a task obey together.

use quote::ToTokens as _;

use crate::{
    Errors,
    task::{Role, Task},
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
