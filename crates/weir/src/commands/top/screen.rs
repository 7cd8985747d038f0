//! The screen: a headline, the servers, the models, and what the keys do.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row, Sparkline, Table},
};

use super::{
    cells,
    replica::Replica,
    state::{Sort, State},
};

/// Rows of the large sparkline.
const GRAPH_ROWS: u16 = 3;
/// Columns of a model's own sparkline.
const TREND: u16 = 16;
/// Narrower screens have the first columns alone, and names keep their room.
const WIDE: u16 = 90;
/// Least columns of a name.
const NAME: Constraint = Constraint::Min(14);
/// Columns of servers and of models on narrow screens.
const NARROW: (usize, usize) = (3, 6);
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws everything. What has no room is left out from the bottom.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let servers = u16::try_from(state.replicas.len()).unwrap_or(u16::MAX);
    // The models get half of the screen at least.
    let servers = (servers + 2).min(frame.area().height / 3);
    let [head, graph, server_area, models, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(GRAPH_ROWS),
        Constraint::Length(servers),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(headline(state), head);
    sparkline(frame, state, graph);
    frame.render_widget(server_table(state, server_area), server_area);
    frame.render_widget(model_table(state, models), models);
    frame.render_widget(keys(state), foot);
    if state.help {
        help(frame);
    }
}

fn headline(state: &State) -> Paragraph<'static> {
    let (known, servers) = (state.known(), state.replicas.len());
    let all = state.together();
    let mut spans =
        vec![Span::styled(" weir top ", Style::new().add_modifier(Modifier::REVERSED)), " ".into()];
    let text = format!(
        "{known} of {servers} servers   {} req/s   {:.0} in flight   {:.2} cores   {}",
        cells::rate(all.total().counts.requests),
        all.in_flight,
        all.cores,
        crate::output::size(all.resident_bytes as u64),
    );
    spans.push(text.into());
    if state.paused {
        spans.push(Span::styled("   paused", Style::new().fg(Color::Yellow)));
    }
    Paragraph::new(Line::from(spans))
}

fn sparkline(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let newest: Vec<u64> =
        state.history().rev().take(area.width.into()).map(|rate| (rate * 10.0) as u64).collect();
    // The newest stands at the right edge.
    let mut bars = vec![0; usize::from(area.width) - newest.len()];
    bars.extend(newest.into_iter().rev());
    frame.render_widget(Sparkline::default().data(bars).style(Style::new().fg(Color::Cyan)), area);
}

fn server_table(state: &State, area: Rect) -> Table<'static> {
    let widths = [
        NAME,
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(10),
        Constraint::Length(8),
    ];
    let shown = if area.width < WIDE { NARROW.0 } else { widths.len() };
    // A header stands above.
    let (replicas, more) = fitting(&state.replicas, area.height.saturating_sub(1).into());
    let rows = replicas.into_iter().map(|replica| server_row(replica, shown));
    let more =
        (more > 0).then(|| Row::new([format!("+{more} more")]).style(Style::new().fg(Color::DarkGray)));
    Table::new(rows.chain(more), &widths[..shown]).header(header(&cells::SERVER_HEADER[..shown], &[]))
}

/// The servers that `room` rows have room for, and how many more there are. Where it is not enough
/// for all, those that are away come first, then those that are not ready; else nothing moves.
fn fitting(replicas: &[Replica], room: usize) -> (Vec<&Replica>, usize) {
    let mut all: Vec<&Replica> = replicas.iter().collect();
    if all.len() <= room {
        return (all, 0);
    }
    all.sort_by_key(|replica| match &replica.last {
        _ if replica.away.is_some() => 0,
        Some((_, figures)) if figures.server.ready == Some(false) => 1,
        _ => 2,
    });
    // The last row says how many more, unless it is the only one: then a server is worth more there.
    all.truncate(room.saturating_sub(1).max(1));
    let more = replicas.len() - all.len();
    (all, more)
}

fn server_row(replica: &Replica, shown: usize) -> Row<'static> {
    let mut columns = cells::server(replica);
    let style = match (&replica.away, &*columns[1]) {
        (Some(why), _) => {
            columns[0] = why.clone();
            Style::new().fg(Color::Red)
        }
        (None, "not ready") => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    row(columns.into_iter().take(shown), 2).style(style)
}

fn model_table(state: &State, area: Rect) -> Table<'static> {
    let widths = [
        NAME,
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(TREND),
    ];
    let shown = if area.width < WIDE { NARROW.1 } else { widths.len() };
    // A header and the totals stand above.
    let room = usize::from(area.height.saturating_sub(2));
    let models = state.rows().into_iter().skip(state.first).take(room).map(|model| {
        let style = if model.rates.away > 0 { Style::new().fg(Color::Red) } else { Style::new() };
        trend(cells::model(&model), state.history_of(&model.name), shown).style(style)
    });
    let total =
        trend(cells::total(state), state.history(), shown).style(Style::new().add_modifier(Modifier::BOLD));
    let sorted = match state.sort {
        Sort::Rate => "req/s",
        Sort::Name => "model",
        Sort::Errors => "err",
        Sort::P99 => "p99",
        Sort::Queue => "queue",
    };
    let names: Vec<&str> = cells::MODEL_HEADER.into_iter().chain(["trend"]).collect();
    let header = header(&names[..shown], &[sorted]);
    Table::new(std::iter::once(total).chain(models), &widths[..shown]).header(header)
}

fn trend(columns: [String; 9], history: impl DoubleEndedIterator<Item = f64>, shown: usize) -> Row<'static> {
    let newest: Vec<f64> = history.rev().take(TREND.into()).collect();
    let most = newest.iter().copied().fold(0.0, f64::max);
    let bar = |rate: &f64| match most {
        m if m > 0.0 => BARS[((rate / m * 7.0).round() as usize).min(7)],
        _ => BARS[0],
    };
    let line: String = newest.iter().rev().map(bar).collect();
    row(columns.into_iter().chain([line]).take(shown), 1)
}

/// The first `left` columns are text, the others numbers.
fn row(columns: impl IntoIterator<Item = String>, left: usize) -> Row<'static> {
    let cell = |(at, text): (usize, String)| {
        Line::from(text).alignment(if at < left { Alignment::Left } else { Alignment::Right })
    };
    Row::new(columns.into_iter().enumerate().map(cell).collect::<Vec<_>>())
}

fn header(names: &[&'static str], sorted: &[&str]) -> Row<'static> {
    let left = if names.first() == Some(&"server") { 2 } else { 1 };
    let cell = |(at, name): (usize, &&'static str)| {
        let text = if sorted.contains(name) { format!("{name}▾") } else { (*name).to_owned() };
        Line::from(text).alignment(if at < left { Alignment::Left } else { Alignment::Right })
    };
    let cells: Vec<_> = names.iter().enumerate().map(cell).collect();
    Row::new(cells).style(Style::new().fg(Color::Cyan))
}

fn keys(state: &State) -> Paragraph<'static> {
    let text = format!(" q quit   s sort ({})   p pause   ↑↓ scroll   h help", state.sort.name());
    Paragraph::new(text).style(Style::new().fg(Color::DarkGray))
}

const HELP: [&str; 12] = [
    "req/s      requests answered a second",
    "err        share answered with a status of 500 or more",
    "p50, p99   latency within the interval, interpolated between buckets;",
    "           ≤ and > mark the first and the last bucket",
    "queue      requests that wait for the model now",
    "refused/s  requests refused because too much waited",
    "rows/run   rows of an execution, on average",
    "cache      share of requests that the cache answered alone",
    "cores      CPU seconds a second",
    "",
    "q, Esc quit   s sort   p, Space pause   ↑ ↓ PgUp PgDn scroll",
    "Ctrl-C quits   h, ? closes this",
];

fn help(frame: &mut Frame<'_>) {
    let [_, middle, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(HELP.len() as u16 + 2),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    let [_, area, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Max(72), Constraint::Fill(1)]).areas(middle);
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" help ")), area);
}
