//! The schema of a task: its name, how it yields, and its options.

use std::time::Duration;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, quote, quote_spanned};

use super::expansion::Expansion;
use crate::{
    args::{Backoff, Checkpoint, Duplicate, Missed, Overlap},
    task::{Param, Task},
    types::compact,
};

impl Expansion<'_> {
    pub(super) fn schema(&self) -> TokenStream {
        let (q, Task { name, options, .. }) = (&self.q, self.task);
        let set = self.settings();
        let awaiting = self.task.awaits.then(|| quote!(.awaiting()));
        let echo = self.task.echoes().then(|| quote!(.echo()));
        let generating = self.generating();
        let schedule = self.schedule();
        let handler = options.generate_handler.as_ref().map(|given| {
            let (path, text) = (&given.value, compact(&given.value.to_token_stream()));
            let takes = self.takes(path);
            quote!(.handler(#text, || #takes.needs()))
        });
        let states: Vec<_> = self.task.params.iter().filter_map(Param::state).collect();
        let needs = (!states.is_empty()).then(|| quote!(.needs(|| ::std::vec![#(#q::Need::of::<#states>()),*])));
        quote! {
            fn schema() -> &'static #q::TaskExecSchema {
                static SCHEMA: #q::TaskExecSchema =
                    #q::TaskExecSchema::new(#name, ::core::module_path!(), ::core::file!(), ::core::line!())
                        #awaiting #echo #generating #handler #needs #schedule #set;
                &SCHEMA
            }
        }
    }

    pub(super) fn generating(&self) -> Option<TokenStream> {
        let (q, options) = (&self.q, &self.task.options);
        let into = self.into();
        let on_error = options.skips().then(|| quote!(.on_error(#q::OnError::Skip)));
        let checkpoint = options.checkpoint.as_ref().map(|given| match given.value {
            Checkpoint::Each => quote!(.checkpoint(#q::Checkpoint::Each)),
            Checkpoint::Within(time) => {
                let time = duration(time);
                quote!(.checkpoint(#q::Checkpoint::Within(#time)))
            }
        });
        let resume = options.goes_on_from_cursor().then(|| quote!(.resume(#q::Resume::Cursor)));
        self.task
            .generates()
            .then(|| quote!(.generating(#q::Generating::into::<#into>() #on_error #checkpoint #resume)))
    }

    /// The schedule, whose expression is checked when the program is compiled. An error of that points to the expression.
    fn schedule(&self) -> Option<TokenStream> {
        let (q, options) = (&self.q, &self.task.options);
        let expression = options.schedule.as_ref()?;
        let timezone = match &options.timezone {
            Some(given) => given.value.to_token_stream(),
            None => quote!("UTC"),
        };
        let missed = options.missed.as_ref().map(|given| match given.value {
            Missed::Skip => quote!(.missed(#q::Missed::Skip)),
            Missed::Once => quote!(.missed(#q::Missed::Once)),
            Missed::All => quote!(.missed(#q::Missed::All)),
        });
        let overlap = options.overlap.as_ref().map(|given| match given.value {
            Overlap::Allow => quote!(.overlap(#q::Overlap::Allow)),
            Overlap::Skip => quote!(.overlap(#q::Overlap::Skip)),
        });
        let jitter = options.jitter.as_ref().map(|given| duration(given.value)).map(|time| quote!(.jitter(#time)));
        let set = quote!(#q::ScheduleOptions::DEFAULT #missed #overlap #jitter);
        let at = expression.span();
        let new = respanned(quote!(#q::ScheduleSchema::new), at);
        let new = quote_spanned!(at=> #new(#expression, #timezone, #set));
        Some(quote!(.schedule(#new)))
    }

    /// Of what there is one job at a time.
    fn unique(&self) -> Option<TokenStream> {
        let (q, options) = (&self.q, &self.task.options);
        options.unique.as_ref()?;
        let by = self.task.unique_by().map(|names| quote!(.by(&[#(#names),*])));
        let on_duplicate = options.on_duplicate.as_ref().map(|given| match given.value {
            Duplicate::Join => quote!(.on_duplicate(#q::Duplicate::Join)),
            Duplicate::Replace => quote!(.on_duplicate(#q::Duplicate::Replace)),
            Duplicate::Refuse => quote!(.on_duplicate(#q::Duplicate::Refuse)),
        });
        let lasting =
            options.unique_for.as_ref().map(|given| duration(given.value)).map(|time| quote!(.lasting(#time)));
        let debounce = options.debounce.as_ref().map(|given| {
            let (quiet, most) = (duration(given.value.0), duration(given.value.1));
            quote!(.debounce(#quiet, #most))
        });
        Some(quote!(.unique(#q::UniqueSchema::BY_ALL #by #on_duplicate #lasting #debounce)))
    }

    /// The settings of the options that are plain values.
    pub(super) fn settings(&self) -> TokenStream {
        let (q, options) = (&self.q, &self.task.options);
        let queue = options.queue.as_ref().map(|queue| quote!(.queue(#queue)));
        let priority = options.priority.map(|priority| quote!(.priority(#priority)));
        let retry = retry(q, options.retry, options.backoff).map(|retry| quote!(.retry(#retry)));
        let max_time = options.max_time.map(duration).map(|time| quote!(.max_time(#time)));
        let expires = options.expires.map(duration).map(|time| quote!(.expires(#time)));
        let unique = self.unique();
        let tags = &options.tags;
        let tags = (!tags.is_empty()).then(|| quote!(.tags(&[#(#tags),*])));
        let description = options.description.as_ref().map(|text| quote!(.description(#text)));
        quote!(#queue #priority #retry #max_time #expires #unique #tags #description)
    }
}

/// The same tokens, as if they stood at `at`.
fn respanned(tokens: TokenStream, at: Span) -> TokenStream {
    let each = |mut token: TokenTree| {
        token.set_span(at.resolved_at(token.span()));
        token
    };
    tokens.into_iter().map(each).collect()
}

fn retry(q: &TokenStream, limit: Option<u32>, backoff: Option<Backoff>) -> Option<TokenStream> {
    if limit.is_none() && backoff.is_none() {
        return None;
    }
    let limit = limit.map_or_else(|| quote!(#q::Retry::DEFAULT.limit), |limit| quote!(#limit));
    let (base, cap) = match backoff {
        Some(Backoff { base, cap }) => (duration(base), duration(cap)),
        None => (quote!(#q::Retry::DEFAULT.base), quote!(#q::Retry::DEFAULT.cap)),
    };
    Some(quote!(#q::Retry { limit: #limit, base: #base, cap: #cap }))
}

fn duration(duration: Duration) -> TokenStream {
    let millis = u64::try_from(duration.as_millis()).expect("read from whole milliseconds");
    quote!(::core::time::Duration::from_millis(#millis))
}
