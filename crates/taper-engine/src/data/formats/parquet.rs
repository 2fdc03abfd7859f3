use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parquet::{
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
    schema::types::Type,
};
use serde_json::{Map, Value};

use super::{ANY, Kind, Reading, kind::mapping};

/// A small file may unpack to any size; texts beyond this are refused instead of filling the memory.
const MOST_TEXT: usize = 1 << 30;

pub(super) fn read(file: File, reading: &mut Reading) {
    // The library panics on types it does not know and on some broken files.
    let done = catch_unwind(AssertUnwindSafe(|| rows(file, reading)));
    let next = reading.rows.len() as u64 + 1;
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => reading
            .problems
            .add(next, &format!("the Parquet file cannot be read: {error}")),
        Err(_) => reading.problems.add(
            next,
            "the Parquet file cannot be read: it is broken, or has a column type that taper does not know",
        ),
    }
}

fn rows(file: File, reading: &mut Reading) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema();
    let all = schema.get_fields();
    let names: Vec<_> = all
        .iter()
        .map(|column| format!("'{}'", column.name()))
        .collect();
    let there = |column: &str| all.iter().any(|field| field.name() == column);
    reading
        .check_mapping(there, &names)
        .map_err(ParquetError::General)?;
    let field = |column: &Type| reading.field_of(column.name()).map(str::to_owned);
    let columns: Vec<_> = all
        .iter()
        .filter(|column| field(column).is_some())
        .map(Arc::clone)
        .collect();
    let fields: Vec<String> = columns.iter().filter_map(|column| field(column)).collect();
    if let Some(twice) = (1..fields.len()).find(|i| fields[..*i].contains(&fields[*i])) {
        let message = format!("it has the column '{}' twice", fields[twice]);
        return Err(ParquetError::General(message));
    }
    if Kind::among(|wanted| fields.iter().any(|field| field == wanted)).is_none() {
        return Err(ParquetError::General(format!(
            "its columns are others: {}; {ANY}; {}",
            names.join(", "),
            mapping(&["text", "label"])
        )));
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(columns)
        .build()?;
    let mut room = MOST_TEXT;
    for (index, row) in reader.get_row_iter(Some(projection))?.enumerate() {
        let mut object = Map::new();
        for (name, (column, field)) in fields.iter().zip(row?.into_columns()) {
            if unknown(&field) {
                return Err(ParquetError::General(format!(
                    "the column '{column}' is of a type that is neither text nor number"
                )));
            }
            object.insert(name.clone(), value(field, &mut room)?);
        }
        reading.take_fields(index as u64 + 1, &object);
    }
    Ok(())
}

/// Whether a column's values are of a type that no kind of row asks for.
fn unknown(field: &Field) -> bool {
    matches!(
        field,
        Field::Decimal(_)
            | Field::Date(_)
            | Field::TimeMillis(_)
            | Field::TimeMicros(_)
            | Field::TimestampMillis(_)
            | Field::TimestampMicros(_)
    )
}

/// A field as JSON would have it. Members of a group that are null are left out: rows of one schema cannot leave them out otherwise.
fn value(field: Field, room: &mut usize) -> Result<Value, ParquetError> {
    Ok(match field {
        Field::Bool(yes) => Value::from(yes),
        Field::Byte(n) => Value::from(n),
        Field::Short(n) => Value::from(n),
        Field::Int(n) => Value::from(n),
        Field::Long(n) => Value::from(n),
        Field::UByte(n) => Value::from(n),
        Field::UShort(n) => Value::from(n),
        Field::UInt(n) => Value::from(n),
        Field::ULong(n) => Value::from(n),
        Field::Float(x) => Value::from(x),
        Field::Double(x) => Value::from(x),
        Field::Str(text) => Value::from(charged(text, room)?),
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Value::from(charged(text.to_owned(), room)?),
            Err(_) => Value::Null,
        },
        Field::Group(row) => {
            let mut object = Map::new();
            for (name, field) in row.into_columns() {
                let value = value(field, room)?;
                if !value.is_null() {
                    object.insert(name, value);
                }
            }
            Value::Object(object)
        }
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|field| value(field.clone(), room))
            .collect::<Result<_, _>>()?,
        Field::Float16(x) => Value::from(f64::from(x)),
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, field) in map.entries() {
                if let Field::Str(key) = key {
                    object.insert(key.clone(), value(field.clone(), room)?);
                }
            }
            Value::Object(object)
        }
        Field::Null
        | Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::Null,
    })
}

fn charged(text: String, room: &mut usize) -> Result<String, ParquetError> {
    *room = room.checked_sub(text.len()).ok_or_else(|| {
        ParquetError::General(format!(
            "it holds more than {} MiB of text",
            MOST_TEXT >> 20
        ))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parquet::{
        basic::{Compression, ZstdLevel},
        data_type::{ByteArray, ByteArrayType, Int64Type},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;
    use crate::data::{Content, Row};

    /// Values of a column with their definition and repetition levels.
    enum Column {
        Texts(Vec<&'static str>, Option<[Vec<i16>; 2]>),
        Numbers(Vec<i64>),
    }

    fn written(schema: &str, compression: Compression, columns: Vec<Column>) -> File {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .build();
        let file = tempfile::tempfile().unwrap();
        let mut writer =
            SerializedFileWriter::new(file.try_clone().unwrap(), schema, Arc::new(properties))
                .unwrap();
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut out = group.next_column().unwrap().unwrap();
            match column {
                Column::Texts(texts, levels) => {
                    let texts: Vec<ByteArray> = texts.into_iter().map(ByteArray::from).collect();
                    let levels = levels.as_ref();
                    out.typed::<ByteArrayType>()
                        .write_batch(
                            &texts,
                            levels.map(|l| l[0].as_slice()),
                            levels.map(|l| l[1].as_slice()),
                        )
                        .unwrap();
                }
                Column::Numbers(numbers) => {
                    out.typed::<Int64Type>()
                        .write_batch(&numbers, None, None)
                        .unwrap();
                }
            }
            out.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    fn rows(file: File) -> Reading {
        let mut reading = Reading::default();
        read(file, &mut reading);
        reading
    }

    #[test]
    fn labelled_rows_of_every_compression() {
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(ZstdLevel::default()),
            Compression::LZ4_RAW,
            Compression::BROTLI(Default::default()),
        ] {
            let file = written(
                // A time of day is none of the types that the library turns into rows.
                "message m { required binary text (STRING); required int64 label; required int64 at (TIME(NANOS, true)); }",
                compression,
                vec![
                    Column::Texts(vec!["é", "b"], None),
                    Column::Numbers(vec![-1, 2]),
                    Column::Numbers(vec![0, 0]),
                ],
            );
            let reading = rows(file);
            assert_eq!(reading.problems.message(), None);
            let row = |line, text: &str, label: &str| Row {
                line,
                content: Content::Labelled {
                    text: text.to_owned(),
                    label: label.to_owned(),
                },
            };
            assert_eq!(reading.rows, [row(1, "é", "-1"), row(2, "b", "2")]);
        }
    }

    #[test]
    fn chats_as_lists_of_groups() {
        let schema = "message m { required group messages (LIST) { repeated group list { required group element {
            required binary role (STRING); optional binary content (STRING); } } } }";
        let reading = rows(written(
            schema,
            Compression::SNAPPY,
            vec![
                Column::Texts(
                    vec!["user", "assistant", "user"],
                    Some([vec![1, 1, 1], vec![0, 1, 0]]),
                ),
                Column::Texts(vec!["u", "a"], Some([vec![2, 2, 1], vec![0, 1, 0]])),
            ],
        ));
        assert!(
            matches!(&reading.rows[..], [Row { line: 1, content: Content::Chat { messages, .. } }] if messages.len() == 2)
        );
        assert_eq!(
            reading.problems.message().unwrap(),
            "line 2: message 1: has no 'content'"
        );
    }

    #[test]
    fn broken_files_are_refused() {
        let good = "message m { required binary words (STRING); }";
        let other = rows(written(
            good,
            Compression::SNAPPY,
            vec![Column::Texts(vec!["a"], None)],
        ));
        let message = other.problems.message().unwrap();
        assert!(message.contains("its columns are others"), "{message}");
        let mut cut = tempfile::tempfile().unwrap();
        cut.write_all(b"PAR1 and nothing more").unwrap();
        let message = rows(cut).problems.message().unwrap();
        assert!(message.contains("cannot be read"), "{message}");
    }
}
