//! The end of a body that yields: nothing, or `Ok(())`, since the values are the result. Rustc would say so in terms of
//! types; a wrong end that is plain to see gets a message of ours.

use syn::{
    Block, Expr, ExprAsync, ExprClosure, ExprReturn, Item, Macro, Stmt,
    visit::{self, Visit},
};

use crate::Errors;

/// Checks every end of the body; `fails` when the task returns a `Result`.
pub(crate) fn check(body: &Block, fails: bool, errors: &mut Errors) {
    if fails && falls_through(body) {
        let end = body.brace_token.span.close();
        errors.push(syn::Error::new(end, "the body must end with `Ok(())`: the values that it yields are the result"));
    }
    if let Some(Stmt::Expr(end, None)) = body.stmts.last() {
        check_end(end, fails, errors);
    }
    Returns { fails, errors }.visit_block(body);
}

fn check_end(end: &Expr, fails: bool, errors: &mut Errors) {
    match (end, fails) {
        (Expr::Call(call), true) if is_path(&call.func, "Ok") && call.args.iter().any(is_value) => {
            errors.at(&call.args, OK_ALONE);
        }
        (end, true) if is_value(end) => errors.at(end, OK_ALONE),
        (end, false) if is_value(end) => errors.at(end, NO_VALUE),
        _ => {}
    }
}

const OK_ALONE: &str = "the values that the body yields are the result: end it with `Ok(())`, not with a value";
const NO_VALUE: &str =
    "the values that the body yields are the result: end it without a value, and early with `return;`";

/// The `return`s of the body itself.
struct Returns<'a> {
    fails: bool,
    errors: &'a mut Errors,
}

impl<'ast> Visit<'ast> for Returns<'_> {
    fn visit_expr_return(&mut self, end: &'ast ExprReturn) {
        if let Some(value) = &end.expr {
            check_end(value, self.fails, self.errors);
        }
        visit::visit_expr_return(self, end);
    }

    fn visit_expr_closure(&mut self, _: &'ast ExprClosure) {}

    fn visit_expr_async(&mut self, _: &'ast ExprAsync) {}

    fn visit_item(&mut self, _: &'ast Item) {}
}

/// Whether an expression is a value other than `()` for sure.
fn is_value(expr: &Expr) -> bool {
    const MAKERS: [&str; 5] = ["new", "with_capacity", "from", "Some", "from_iter"];
    const METHODS: [&str; 6] = ["collect", "clone", "to_vec", "to_owned", "to_string", "len"];
    match expr {
        Expr::Lit(_) | Expr::Array(_) | Expr::Repeat(_) | Expr::Struct(_) | Expr::Reference(_) | Expr::Path(_) => true,
        Expr::Tuple(tuple) => !tuple.elems.is_empty(),
        Expr::Macro(call) => names(&call.mac, &["vec", "format"]),
        Expr::Call(call) => MAKERS.iter().any(|maker| is_path(&call.func, maker)),
        Expr::MethodCall(call) => METHODS.iter().any(|method| call.method == method),
        Expr::Group(group) => is_value(&group.expr),
        Expr::Paren(paren) => is_value(&paren.expr),
        _ => false,
    }
}

/// Whether the end of `block` is reached, and is `()`, for sure.
fn falls_through(block: &Block) -> bool {
    match block.stmts.last() {
        None | Some(Stmt::Local(_) | Stmt::Item(_)) => true,
        Some(Stmt::Macro(call)) => call.semi_token.is_some() && is_unit(&call.mac),
        Some(Stmt::Expr(Expr::Macro(call), Some(_))) => is_unit(&call.mac),
        Some(Stmt::Expr(Expr::Assign(_) | Expr::Await(_) | Expr::MethodCall(_) | Expr::Try(_), Some(_))) => true,
        Some(Stmt::Expr(end, None)) => gives_nothing(end),
        Some(Stmt::Expr(end, Some(_))) => matches!(end, Expr::ForLoop(_) | Expr::While(_)),
    }
}

/// Whether `end`, at the end of a block, is `()` for sure.
fn gives_nothing(end: &Expr) -> bool {
    match end {
        Expr::ForLoop(_) | Expr::While(_) => true,
        Expr::Block(block) => block.label.is_none() && falls_through(&block.block),
        Expr::If(branch) => match &branch.else_branch {
            Some((_, other)) => falls_through(&branch.then_branch) && gives_nothing(other),
            None => true,
        },
        Expr::Match(cases) => !cases.arms.is_empty() && cases.arms.iter().all(|arm| gives_nothing(&arm.body)),
        Expr::Tuple(tuple) => tuple.elems.is_empty(),
        _ => false,
    }
}

/// Whether a call of this macro is `()` as a statement, and the body goes on after it.
fn is_unit(call: &Macro) -> bool {
    names(call, &["yield_", "println", "print", "eprintln", "eprint", "trace", "debug", "info", "warn", "assert"])
}

fn names(call: &Macro, macros: &[&str]) -> bool {
    call.path.segments.last().is_some_and(|last| macros.iter().any(|name| last.ident == name))
}

fn is_path(expr: &Expr, last: &str) -> bool {
    matches!(expr, Expr::Path(path) if path.path.segments.last().is_some_and(|segment| segment.ident == last))
}
