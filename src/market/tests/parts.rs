//! Lists of symbols, prices, flags.

use super::*;

#[test]
fn a_list_of_symbols_is_read_whatever_its_form() {
    let plain = universe();
    assert_eq!(plain.len(), 7);
    assert_eq!(plain.position("BRK.A"), Some(1));
    assert_eq!(plain.position("brk.a"), None, "a source's small letters mean something");
    assert_eq!(plain.position_ignoring_case("brk.a"), Some(1));
    let other = "\u{feff}SECTOR,Extra, Symbol ,NAME,Exchange\r\n\r\n,x, newc ,,\r\n".to_owned()
        + "Information Technology,,aapl,Apple Inc.,NASDAQ\r\n"
        + "Financials,\"a, b\",BRK.A,Berkshire Hathaway Inc.,NYSE\nMaterials,,STLL,Still Water,NYSE\n"
        + "Financials,,GHST,\"Ghost Corporation\",NYSE\nMaterials,,PNNY,Penny Apple Mines,NASDAQ\n"
        + "Financials,,WISP,Wisp of Wind,NYSE";
    let other = Universe::parse_csv(&other, "other.csv").unwrap();
    assert_eq!(plain, other);
}

#[test]
fn a_list_that_cannot_be_used_says_where_and_what_to_do() {
    let rows = |count: usize| (0..count).map(|number| format!("S{number}\n")).collect::<String>();
    let table: Vec<String> = [
        "",
        "symbol\n",
        "ticker,name\nA,Agilent\n",
        "symbol\nA\n\nB C\n",
        "symbol,name\n,Agilent\n",
        "symbol\nABCDEFGHIJKLMNOPQ\n",
        "symbol\nſPY\n",
        "symbol\nAA\nB\naa\n",
        "name,symbol\nAgilent\n",
        "symbol,name\nA,\"Agilent\nB,Barnes\n",
        "symbol,name\nA,\"\nB\n",
        "symbol,name,exchange\r\n\r\nA,Agilent Technologies, Inc.,NYSE\r\n",
        &format!("symbol\n{}", rows(50_001)),
    ]
    .into_iter()
    .map(|text| Universe::parse_csv(text, "list.csv").unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    list.csv: the first line has no column `symbol`; name it there
    list.csv: there is no symbol in it; add a line for each
    list.csv: the first line has no column `symbol`; name it there
    list.csv: line 4: "B C" is not a symbol; write up to 16 of A-Z 0-9 . $ - = / ^
    list.csv: line 2: the symbol is missing; write one or remove the line
    list.csv: line 2: "ABCDEFGHIJKLMNOPQ" is not a symbol; write up to 16 of A-Z 0-9 . $ - = / ^
    list.csv: line 2: "ſPY" is not a symbol; write up to 16 of A-Z 0-9 . $ - = / ^
    list.csv: AA is on line 2 and again on line 4; remove one
    list.csv: line 2: the symbol is missing; write one or remove the line
    list.csv: line 2: a quote (") is not closed before the line ends; close or remove it
    list.csv: line 2: a quote (") is not closed before the line ends; close or remove it
    list.csv: line 3: 4 fields for 3 columns; put text that holds a comma in quotes
    list.csv: line 50002: more than 50000 symbols; shorten the list
    "#);
    assert_eq!(Universe::parse_csv(&format!("symbol\n{}", rows(50_000)), "list.csv").unwrap().len(), 50_000);
}

#[test]
fn a_price_is_written_with_two_to_four_places() {
    let shown: Vec<String> = [0.0001, 0.5, 1.0, 20.506, 20.51, 429_496.729_6, 700_000.0, 0.00005]
        .into_iter()
        .map(|decimal| format!("{} {}", price(decimal), serde_json::to_string(&price(decimal)).unwrap()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    0.0001 0.0001
    0.50 0.5
    1.00 1.0
    20.506 20.506
    20.51 20.51
    429496.7296 429496.7296
    700000.00 700000.0
    0.0001 0.0001
    ");
    assert_eq!(Price::from_units(-1_200).to_string(), "-0.12");
    for refused in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.00004, 9.3e14, f64::MAX] {
        assert_eq!(Price::from_decimal(refused), None, "{refused}");
    }
    assert!(Price::from_decimal(1e11).is_some() && Price::from_decimal(1.1e11).is_none());
}

#[test]
fn completeness_is_rounded_down_to_four_places() {
    let of = |fresh, expected| Cycle { fresh, expected, ..snapshot().cycle }.completeness();
    assert_eq!([of(0, 0), of(57, 100), of(2, 3), of(6_877, 7_019)], [0.0, 0.57, 0.6666, 0.9797]);
    assert_eq!([of(49_999, 50_000), of(7, 7)], [0.9999, 1.0]);
}

#[test]
fn columns_hold_what_the_rows_held() {
    let snapshot = snapshot();
    let rows: Vec<Option<Quote>> = (0..snapshot.quotes.len()).map(|index| snapshot.quotes.get(index)).collect();
    assert_eq!(Columns::of(&rows), snapshot.quotes);
    let apple = rows[0].unwrap();
    assert_eq!((apple.price, apple.low, apple.volume), (price(20.506), Some(price(20.3)), Some(1_234_567)));
    assert_eq!((rows[2], snapshot.quotes.get(7), snapshot.quotes.is_quoted(2)), (None, None, false));
    let shown = |index| std::array::from_fn(|place| snapshot.quotes.value(Column::ALL[place], index));
    let known = [205_060, 203_860, 1_200, 5_886, 204_000, 207_500, 203_000, 205_000, 205_100, 1_234_567];
    assert_eq!(shown(0), known.map(Some));
    assert_eq!(shown(2), [None; Column::OF_QUOTES]);
    assert_eq!(shown(3).map(|value| value.is_some()), std::array::from_fn(|place| Column::ALL[place] == Column::Price));
}

#[test]
fn flags_are_a_set() {
    let mut flags = QuoteFlags::default();
    flags.insert(QuoteFlags::HALTED);
    flags.insert(QuoteFlags::NOT_REFRESHED);
    assert!(flags.contains(QuoteFlags::NOT_REFRESHED) && flags.contains(QuoteFlags::HALTED));
    assert!(!flags.contains(QuoteFlags::MOVED_OVER_25_PERCENT));
}
