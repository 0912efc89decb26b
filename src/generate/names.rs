//! Company names out of word lists, each name once.

use std::collections::BTreeSet;

use super::dice::Dice;

const PLACES: [&str; 24] = [
    "札幌",
    "函館",
    "仙台",
    "盛岡",
    "新潟",
    "金沢",
    "富山",
    "長野",
    "宇都宮",
    "高崎",
    "川越",
    "横浜",
    "湘南",
    "静岡",
    "浜松",
    "名古屋",
    "京都",
    "神戸",
    "岡山",
    "広島",
    "松山",
    "福岡",
    "熊本",
    "那覇",
];
const WORDS: [&str; 48] = [
    "青葉",
    "若草",
    "朝凪",
    "星見",
    "風見",
    "白樺",
    "千歳",
    "木漏れ日",
    "春待",
    "水無月",
    "桜坂",
    "楓",
    "翠",
    "藍",
    "暁",
    "東雲",
    "山吹",
    "銀杏",
    "花筏",
    "月影",
    "雪割",
    "夏木",
    "秋津",
    "八雲",
    "七宝",
    "双葉",
    "みらい丘",
    "あすなろ",
    "こもれび",
    "はるかぜ",
    "せせらぎ",
    "つばめ",
    "ひなた",
    "ソラノ",
    "ハルカ",
    "ミナモ",
    "アオイ",
    "コトノハ",
    "トモシビ",
    "カナデ",
    "ノーザン",
    "ブルーム",
    "リンクス",
    "オルカ",
    "ルミナ",
    "アステル",
    "セレノ",
    "クローネ",
];
const ENGLISH: [&str; 40] = [
    "Amber",
    "Birchwood",
    "Bluefin",
    "Cedarline",
    "Clearwater",
    "Copperleaf",
    "Driftwood",
    "Eastgate",
    "Elmhurst",
    "Fairhaven",
    "Fernbrook",
    "Foxglove",
    "Glasswing",
    "Goldcrest",
    "Greyfield",
    "Harborview",
    "Hazelmere",
    "Ironbark",
    "Juniper",
    "Kestrel",
    "Larkspur",
    "Linden",
    "Marlowe",
    "Meadowlark",
    "Millstone",
    "Moonrise",
    "Northwind",
    "Oakhaven",
    "Osprey",
    "Pinecrest",
    "Quillon",
    "Ravenhill",
    "Redwater",
    "Rowan",
    "Saltmarsh",
    "Silverbirch",
    "Stonebridge",
    "Thornfield",
    "Westmark",
    "Willowbank",
];
const ENGLISH_PLACES: [&str; 16] = [
    "Pacific", "Atlantic", "Nordic", "Alpine", "Coastal", "Highland", "Central", "Pioneer",
    "Summit", "Delta", "Prairie", "Harbor", "Lakeside", "Valley", "Crescent", "Polar",
];

/// Japanese and English words for what a company of this industry does.
fn trades(industry: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match industry {
        "SaaS" => (
            &[
                "システムズ",
                "ソフト",
                "テクノロジーズ",
                "クラウド",
                "ラボ",
                "データ",
            ],
            &["Software", "Cloud", "Systems", "Labs", "Data"],
        ),
        "製造" => (
            &["製作所", "工業", "精機", "電機", "化成", "金属"],
            &["Manufacturing", "Industries", "Precision", "Materials"],
        ),
        "小売" => (
            &["商店", "ストア", "マート", "百貨店", "商事"],
            &["Stores", "Retail", "Trading", "Markets"],
        ),
        "金融" => (
            &[
                "キャピタル",
                "ファイナンス",
                "信用",
                "アセット",
                "保険サービス",
            ],
            &["Capital", "Finance", "Insurance", "Partners"],
        ),
        "医療" => (
            &[
                "メディカル",
                "ヘルスケア",
                "薬品",
                "クリニックサービス",
                "ケア",
            ],
            &["Health", "Medical", "Care", "Pharma"],
        ),
        "物流" => (
            &["運輸", "物流", "ロジスティクス", "倉庫", "海運"],
            &["Logistics", "Freight", "Shipping", "Transport"],
        ),
        "教育" => (
            &[
                "学園",
                "エデュケーション",
                "アカデミー",
                "教育研究所",
                "ゼミ",
            ],
            &["Learning", "Academy", "Education"],
        ),
        "建設" => (
            &["建設", "工務店", "設備", "住宅", "土木"],
            &["Construction", "Builders", "Engineering"],
        ),
        "不動産" => (
            &["不動産", "地所", "ホーム", "エステート"],
            &["Estates", "Properties", "Realty"],
        ),
        _ => (
            &[
                "サービス",
                "コンサルティング",
                "企画",
                "ホールディングス",
                "プランニング",
            ],
            &["Consulting", "Services", "Group", "Holdings"],
        ),
    }
}

/// Gives out names; none twice.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name for a company of this industry; abroad it is English, in Japan mostly Japanese.
    pub fn next(&mut self, industry: &str, is_abroad: bool, dice: &mut Dice) -> String {
        let is_english = is_abroad || dice.chance(1_800);
        // A word alone soon runs out of free names; then a place stands before it, in the end a number behind it.
        for attempt in 0..12 {
            let has_place = attempt >= 2;
            let name = if is_english {
                english(industry, is_abroad, has_place, dice)
            } else {
                japanese(industry, has_place, dice)
            };
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
        let stem = if is_english {
            english(industry, is_abroad, true, dice)
        } else {
            japanese(industry, true, dice)
        };
        let name = format!("{stem} {}", self.taken.len() + 1);
        self.taken.insert(name.clone());
        name
    }
}

fn japanese(industry: &str, has_place: bool, dice: &mut Dice) -> String {
    let place = if has_place { dice.pick(&PLACES) } else { "" };
    let stem = format!(
        "{place}{}{}",
        dice.pick(&WORDS),
        dice.pick(trades(industry).0)
    );
    match dice.below(100) {
        0..58 => format!("株式会社{stem}"),
        58..84 => format!("{stem}株式会社"),
        84..94 => format!("合同会社{stem}"),
        _ => format!("有限会社{stem}"),
    }
}

fn english(industry: &str, is_abroad: bool, has_place: bool, dice: &mut Dice) -> String {
    let place = if has_place {
        format!("{} ", dice.pick(&ENGLISH_PLACES))
    } else {
        String::new()
    };
    let form = if is_abroad {
        dice.pick(&["Inc.", "LLC", "Ltd.", "GmbH", "B.V.", "Corp."])
    } else {
        dice.pick(&["K.K.", "Co., Ltd.", "Japan Inc."])
    };
    format!(
        "{place}{} {} {form}",
        dice.pick(&ENGLISH),
        dice.pick(trades(industry).1)
    )
}
