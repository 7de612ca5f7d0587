//! `larder commands`: the command table for people and scripts.

use std::io::{self, Write};

use larder_wire::command::spec::{CommandSpec, Home, Merge, Route};
use larder_wire::command::{self, CommandId};
use serde::Serialize;

use crate::args::Commands;
use crate::text::Table;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    arity: i16,
    flags: Vec<&'static str>,
    categories: Vec<&'static str>,
    route: &'static str,
    served: bool,
}

pub(crate) fn run(ask: &Commands, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<Row> = CommandId::ALL
        .iter()
        .map(|id| command::spec(*id))
        .filter(|spec| {
            if ask.missing {
                spec.home == Home::Nobody
            } else {
                true
            }
        })
        .map(row)
        .collect();
    if ask.json {
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        return writeln!(out);
    }
    if ask.missing {
        return rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", row.name));
    }
    let mut table = Table::new(["command", "arity", "through the proxy", "flags", ""]);
    for row in &rows {
        let served = if row.served { "" } else { "not yet" };
        table.row([
            row.name.to_string(),
            row.arity.to_string(),
            row.route.to_string(),
            row.flags.join(" "),
            served.to_string(),
        ]);
    }
    write!(out, "{table}")
}

fn row(spec: &CommandSpec) -> Row {
    Row {
        name: spec.name,
        arity: spec.arity,
        flags: spec.flags.words().collect(),
        categories: spec.categories.words().collect(),
        route: route_text(spec.route),
        served: spec.home != Home::Nobody,
    }
}

/// What the proxy does with a command, in a few words.
fn route_text(route: Route) -> &'static str {
    match route {
        Route::Key => "to the node of its keys",
        Route::Split(Merge::Ordered) => "split by node, gathered in order",
        Route::Split(Merge::Sum) => "split by node, summed",
        Route::Split(Merge::AllOk) => "split by node, all must agree",
        Route::Split(Merge::Concat) => "split by node, joined",
        Route::Split(Merge::Union) => "split by node, joined without repetition",
        Route::Split(Merge::Counts) => "split by node, summed by name",
        Route::Split(Merge::Least) => "split by node, the least",
        Route::EveryNode(Merge::Ordered) => "to every node, in order",
        Route::EveryNode(Merge::Sum) => "to every node, summed",
        Route::EveryNode(Merge::AllOk) => "to every node, all must agree",
        Route::EveryNode(Merge::Concat) => "to every node, joined",
        Route::EveryNode(Merge::Union) => "to every node, joined without repetition",
        Route::EveryNode(Merge::Counts) => "to every node, summed by name",
        Route::EveryNode(Merge::Least) => "to every node, the least",
        Route::Scan => "node after node, by cursor",
        Route::AnyNode => "to any node",
        Route::Local => "answered by the proxy",
        Route::Topology => "to the topology",
        Route::Refused => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(missing: bool, json: bool) -> String {
        let mut out = Vec::new();
        run(&Commands { missing, json }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_and_its_json_have_a_line_for_every_command() {
        let json: Vec<serde_json::Value> = serde_json::from_str(&shown(false, true)).unwrap();
        assert_eq!(json.len(), CommandId::ALL.len());
        assert_eq!(
            shown(false, false).lines().count(),
            CommandId::ALL.len() + 1
        );
    }

    #[test]
    fn missing_commands_are_exactly_those_that_nothing_executes() {
        let expected: Vec<_> = command::missing()
            .map(|id| command::spec(id).name)
            .collect();
        assert_eq!(shown(true, false).lines().collect::<Vec<_>>(), expected);
    }
}
